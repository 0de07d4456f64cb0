"""`drain`: is anybody left on the pool that served before?"""

import socket
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from here import OWNER, TEMPLATES, ports, site_of
from upswitch.hosts.clock import SystemClock
from upswitch.nginx import processes
from upswitch.switch import drained, drive
from upswitch.switch.machine import Outcome, Step
from upswitch.switch.session import Ask, Choices, new_run
from upswitch.switch.switch import switch as move
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab
from upswitch_lab.process import until

HEAD = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

CLOCK = SystemClock()


def row(peer, state="01"):
    return f"   0: 0100007F:1F90 {peer} {state} 00000000:00000000 00:00000000 00000000     0        0 1 1\n".encode()


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("0100007F:71AC", "127.0.0.1:29100"),
        ("0A02A8C0:0050", "192.168.2.10:80"),
        ("00000000000000000000000001000000:1F90", "[::1]:8080"),
        ("0000000000000000FFFF00000100007F:71AC", "127.0.0.1:29100"),
        ("B80D0120000000000000000001000000:01BB", "[2001:db8::1]:443"),
    ],
)
def test_an_established_peer_is_named_as_nginx_logs_it(peer, address):
    assert list(processes.peers(HEAD + row(peer))) == [address]


def test_other_states_and_torn_lines_do_not_count():
    assert list(processes.peers(HEAD + row("0100007F:71AC", "06") + row("0100007F:71AC", "0A") + b"   1: 0100")) == []
    assert list(processes.peers(b"")) == []


@given(st.ip_addresses(v=4), st.integers(1, 65535))
def test_every_ipv4_address_is_read_back(address, port):
    text = f"{address.packed[::-1].hex().upper()}:{port:04X}"
    assert list(processes.peers(HEAD + row(text))) == [f"{address}:{port}"]


def test_connected_unix_sockets_are_named_by_their_path():
    table = (
        b"Num       RefCount Protocol Flags    Type St Inode Path\n"
        b"0000000000000000: 00000002 00000000 00010000 0001 01 100 /run/a.sock\n"
        b"0000000000000000: 00000003 00000000 00000000 0001 03 101 /run/a.sock\n"
        b"0000000000000000: 00000003 00000000 00000000 0001 03 102\n"
    )
    assert list(processes.unix_peers(table)) == ["unix:/run/a.sock"]


def test_the_kernels_own_table_shows_a_connection_to_a_listener_here():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        with open("/proc/net/tcp", "rb") as table:
            peers = list(processes.peers(table.read()))
        assert peers.count(f"127.0.0.1:{server.getsockname()[1]}") == 1


def switch(lab, pool):
    site = site_of(lab)
    ask = Ask(run=new_run(CLOCK.now()), command="switch", pool=pool, skips=(Step.WATCH,))
    its = ports(site.nginx)
    with closing(its.prober), drive.locked(its, site, OWNER):
        ending = move(its, site, ask, TEMPLATES, choices=Choices())
    assert ending.outcome is Outcome.SWITCHED, ending.headline
    return ports(site.nginx), site


def hanging_request(lab):
    """A client whose request the live pool has taken and does not answer."""
    lab.backend("A", 1).mode("hang")
    host, port = lab.place.public.split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    address = lab.backend("A", 1).address

    def is_held():
        with open("/proc/net/tcp", "rb") as table:
            return address in processes.peers(table.read())

    until(is_held, what="the request at the server")
    return client


ONE_EACH = Layout(servers_per_pool=1, site={"gate": {"deadline": "5s"}})


def test_an_old_worker_with_a_slow_request_is_named_and_its_end_makes_the_pool_safe_to_stop(any_nginx):
    with Lab(any_nginx, ONE_EACH) as lab:
        client = hanging_request(lab)
        lab.backend("A", 1).mode("ok")
        its, site = switch(lab, "B")
        report = drained.drained(its, site)
        assert (report.pool, report.is_safe, len(report.old_workers)) == ("A", False, 1)
        assert report.connections == {lab.backend("A", 1).address: 1}
        assert f"old nginx workers still run (pids {report.old_workers[0]})" in report.said
        assert f"open connections to {lab.backend('A', 1).address}: 1" in report.said
        assert not drained.wait(its, site, deadline=0.3).is_safe
        client.close()
        report = drained.wait(its, site, deadline=10)
        assert report.is_safe, report.said
        assert report.said == f"safe to stop A: no old worker, no connection to {lab.backend('A', 1).address}"


def test_before_any_switch_there_is_no_former_pool(lab):
    site = site_of(lab)
    report = drained.wait(ports(site.nginx), site, deadline=10)
    assert (report.pool, report.is_safe) == ("", False)
    assert report.said == "no other pool was live before, so there is no former pool to stop"


def test_a_second_release_of_the_same_pool_leaves_the_other_one_as_the_former(any_nginx):
    with Lab(any_nginx, ONE_EACH) as lab:
        switch(lab, "B")
        lab.site_file.write_text(
            lab.site_file.read_text().replace("[upstreams.app]\n", '[upstreams.app]\ndirectives = ["least_conn"]\n')
        )
        its, site = switch(lab, "B")
        report = drained.wait(its, site, deadline=10)
        assert (report.pool, report.is_safe) == ("A", True), report.said


def test_without_nginx_nothing_is_called_safe(any_nginx):
    with Lab(any_nginx, ONE_EACH) as lab:
        its, site = switch(lab, "B")
        lab.stop_nginx()
        report = drained.drained(its, site)
        assert not report.is_safe
        assert "not running" in report.said
