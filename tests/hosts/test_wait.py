"""Waiting: what a beat in a thread of its own must never do."""

from upswitch.hosts.clock import SystemClock
from upswitch.hosts.wait import Pulse
from upswitch_lab.process import until


def test_a_pulse_that_was_stopped_does_not_act_again():
    acts = []
    pulse = Pulse(lambda: acts.append(1), every=30.0, clock=SystemClock())
    until(lambda: bool(acts), what="the first beat")
    pulse.stop()
    until(lambda: not pulse._thread.is_alive(), what="the end of its thread")
    assert acts == [1]
