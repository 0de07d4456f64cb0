"""upswitch.cli.exit_codes."""

from upswitch.switch.words import Outcome

EXIT: dict[Outcome, int] = {
    Outcome.SWITCHED: 0,
    Outcome.UNCHANGED: 0,
    Outcome.REFUSED: 3,
    Outcome.ROLLED_BACK: 4,
    Outcome.STUCK: 5,
    Outcome.HELD: 7,
    Outcome.INTERRUPTED: 130,
}
