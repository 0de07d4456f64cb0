"""What the error log says of a pool's servers, where the access log shows nothing or calls a broken answer complete."""

from upswitch.basics.result import Failure
from upswitch.watch.attribution import Attribution, Counts, Timeline
from upswitch.watch.error_log import Faults, faults_of
from upswitch.watch.history import History, Second
from upswitch.watch.probation import Probation

SERVERS = frozenset({"10.0.0.2:80", "app"})
CLOSED = "upstream prematurely closed connection while reading "


def line(cause: str, *, pid: int = 7, client: str = "1.2.3.4", server: str = "10.0.0.2:80") -> bytes:
    head = f'2026/11/20 17:00:00 [error] {pid}#{pid}: *4 {cause}, client: {client}, server: _, request: "GET / HTTP/1.1"'
    return f'{head}, upstream: "http://{server}/", host: "x"'.encode()


def test_attempts_that_were_given_up_and_answers_cut_short_are_told_apart_and_only_those_of_the_pool_count():
    lines = [
        line(f"{CLOSED}response header from upstream"),
        line("no live upstreams while connecting to upstream", server="app"),
        line(f"{CLOSED}upstream"),
        line(f"{CLOSED}upstream", client="2001:db8::1"),
        line(f"{CLOSED}upstream", server="10.0.0.1:80"),
        line("an upstream response is buffered to a temporary file /t/1 while reading upstream"),
        line("upstream timed out (110: Connection timed out) while proxying upgraded connection"),
        b"no line of nginx",
    ]
    assert faults_of(lines, SERVERS) == Faults(gave_up=2, cut={"1.2.3.4": 1, "2001:db8::/64": 1})


def test_a_line_that_no_worker_of_this_nginx_wrote_does_not_count():
    """A client can write whole lines into this log, and does not know the number of a worker."""
    lines = [line(f"{CLOSED}upstream", pid=7), *[line(f"{CLOSED}upstream", pid=1)] * 50]
    assert faults_of(lines, SERVERS, frozenset({7, 8})) == Faults(cut={"1.2.3.4": 1})


def test_answers_cut_short_are_no_more_than_good_requests_and_belong_to_their_clients():
    found = Counts(new=Second(total=3, gateway=1)).with_cut({"a": 2, "b": 5})
    assert found.new == Second(total=3, gateway=1, app=2)
    assert found.clients["b"].failed(Failure.APP) == 5
    timeline = Timeline()
    timeline.add_cut(100, {"a": 1})
    assert timeline.at(100) == Counts(), "no log shows a request of this second"


def probation(**given: object) -> Probation:
    words = {"pool": "B", "history": History(), "servers": (), "log_mode": "", "silent_after": 0.0, "at_s": 5}
    return Probation(**words | given)


def failure(**given: object) -> str:
    found = probation(**given)
    failed = found.failure(found.look())
    return failed.what if failed else ""


def test_attempts_that_no_request_explains_are_a_spike_unless_the_site_always_had_them():
    many = {"gave_up": (0, 9, 9, 9, 9), "gave_up_before": (0,) * 600}
    assert failure(**many) == "nginx gave up 36 attempts at servers of B in the last 5 s, says the error log"
    assert not failure(**many | {"gave_up_before": (9,) * 600}), "usual"
    assert not failure(**many | {"gave_up": (0, 0, 0, 0, 9)}), "all in one second"
    assert not failure(**many, probes=(Second(total=9, gateway=0),) * 5), "our own requests explain them"


def test_attempts_behind_requests_that_the_log_shows_are_retries_that_healed():
    logged = {"log_mode": "address", "silent_after": 10.0, "at_s": 12, "gave_up": (9,) * 12, "gave_up_before": (0,) * 600}
    assert not failure(**logged, seconds=(Second(total=9),) * 12)
    assert failure(**logged, seconds=(Second(),) * 12)
    assert not failure(**logged | {"at_s": 9}, seconds=(Second(),) * 9), "lines may wait in a buffer"


def test_a_spike_in_a_shared_log_is_held_only_where_the_error_log_does_not_name_the_pool():
    shared = {"log_mode": "limited", "silent_after": 10.0, "at_s": 9, "shared": "x.log has requests to other too"}
    bad = {"history": History(seconds=(Second(total=50),) * 600), "seconds": (Second(total=50, gateway=25),) * 9}
    doubtful = probation(**shared, **bad, gave_up=(0,) * 9)
    found = doubtful.failure(doubtful.look())
    assert found.doubt == "LIMITED MODE: x.log has requests to other too, so it is not known whose failures these are"
    assert "requests to any pool (LIMITED MODE) failed" in found.what
    named = probation(**shared, **bad, gave_up=(25,) * 9)
    assert named.failure(named.look()).doubt == ""
    assert Attribution(addresses=frozenset({"a"}), upstreams=frozenset({"app"})).servers == {"a", "app"}
