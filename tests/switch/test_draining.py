"""`drain`: is anybody left on the pool that served before?"""

import re
import socket
from contextlib import ExitStack, closing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import upswitch
from here import OWNER, TEMPLATES, ports, site_of
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.nginx import processes
from upswitch.nginx.running import read_family
from upswitch.switch import drained, drive
from upswitch.switch.machine import Outcome, Step
from upswitch.switch.session import Ask, Choices, new_run
from upswitch.switch.switch import switch as move
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab
from upswitch_lab.process import until

HEAD = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

CLOCK = SystemClock()
HOST = LocalHost(CLOCK)


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
        assert "old workers still hold connections: 1 of 1 reload, the first for " in report.said
        assert f"(pids {report.old_workers[0]})" in report.said
        assert f"open connections to {lab.backend('A', 1).address}: 1" in report.said
        assert not drained.wait(its, site, deadline=0.3).is_safe
        client.close()
        report = drained.wait(its, site, deadline=10)
        assert report.is_safe, report.said
        assert report.said == f"safe to stop A: no old worker, no connection to {lab.backend('A', 1).address}"


def test_old_workers_that_pile_up_are_a_finding_with_their_age_and_memory(any_nginx):
    with Lab(any_nginx, ONE_EACH) as lab, ExitStack() as clients:
        for held in range(1, processes.PILE + 1):
            clients.enter_context(hanging_request(lab))
            assert upswitch(lab, "status", "--no-probe").json["findings"] == []
            lab.reload()
            until(lambda held=held: len(read_family(HOST, lab.nginx_pid).draining) == held, what="the next old worker")
        found = upswitch(lab, "status", "--no-probe")
        assert found.exit == 3, found
        (finding,) = found.json["findings"]
        said = re.search(
            r"3 of 3 reloads, the first for (\d+) s, with up to (\d+) MiB of memory\. `worker_shutdown_timeout`", finding
        )
        assert int(said[1]) < 60, finding
        assert 1 <= int(said[2]) < 200, finding
        linted = upswitch(lab, "lint").json["findings"]
        (piled,) = (each["what"] for each in linted if each["code"] == "old_workers_pile_up")
        assert "worker_shutdown_timeout is not set" in piled
        lab.backend("A", 1).mode("ok")
        switch(lab, "B")
        assert "`worker_shutdown_timeout` in nginx.conf would end them" in upswitch(lab, "drain").json["said"]


def test_old_workers_are_counted_by_reload_and_finish_from_the_next_start_on():
    def worker(pid, start, title="nginx: worker process is shutting down"):
        return processes.Process(pid=pid, parent=1, start=start, state="S", title=title)

    two = (worker(11, 1000), worker(12, 1001))
    three = (*two, worker(21, 5000), worker(31, 9000, "nginx: worker process"))
    found = processes.old_workers(
        processes.Family(master=None, children=three), up=100.0, resident=dict.fromkeys((11, 12, 21, 31), 4096000)
    )
    assert (found.pids, found.reloads, found.seconds, found.memory) == ((11, 12, 21), 2, 50.0, 3 * 4096000)
    assert not found.are_piling_up
    assert processes.old_workers(processes.Family(master=None, children=three[3:]), up=100.0, resident={}) == processes.OldWorkers()


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


def test_servers_that_another_part_of_the_configuration_uses_are_not_safe_to_stop(one_nginx, tmp_path):
    extra = tmp_path / "other.conf"
    extra.touch()
    with Lab(one_nginx, msgspec.structs.replace(ONE_EACH, http=(f"include {extra};",))) as lab:
        switch(lab, "B")
        former, live = lab.backend("A", 1).address, lab.backend("B", 1).address
        for target, is_used in ((former, True), (f"localhost:{former.rpartition(':')[2]}", True), (live, False)):
            for text in (
                f"server {{ listen unix:{tmp_path}/s; location / {{ proxy_pass http://{target}; }} }}",
                f"upstream other {{ server {target}; }}",
                f"map $host $to {{ default {target}; }}",
            ):
                extra.write_text(f"# what another team serves\n{text}\n")
                answer = upswitch(lab, "drain", "--wait")
                assert answer.exit == (3 if is_used else 0), answer
                assert [place.startswith(f"{extra}:2 (") for place in answer.json["used_at"]] == [True] * is_used
                assert not is_used or f"{extra}:2" in answer.json["said"]
        extra.write_text("nonsense;\n")
        answer = upswitch(lab, "drain")
        assert answer.exit == 3, answer
        assert "nobody knows who else uses these servers" in answer.json["said"]
        status = upswitch(lab, "status")
        assert status.exit == 3, status
        (finding,) = status.json["findings"]
        assert finding.startswith("nginx rejects its configuration on disk, so the next reload, by anybody, will fail: ")
        assert f"{extra}:1" in finding
        assert status.json["untested"] == ""


def test_a_user_who_may_not_test_the_configuration_is_told_so(one_nginx, tmp_path):
    with Lab(one_nginx, ONE_EACH) as lab:
        binary = tmp_path / "nginx"
        binary.touch(mode=0)
        lab.site_file.write_text(lab.site_file.read_text().replace(lab.place.binary, str(binary), 1))
        answer = upswitch(lab, "status")
        assert (answer.exit, answer.json["findings"]) == (0, []), answer
        assert answer.json["untested"].startswith("this user may not test it: "), answer


def test_a_live_pool_that_fails_for_clients_only_is_seen_in_the_log(one_nginx):
    with Lab(one_nginx, ONE_EACH) as lab:
        switch(lab, "B")
        for _ in range(21):
            lab.get()
        safe = upswitch(lab, "drain")
        assert (safe.exit, "0 of the last 21 requests to B failed" in safe.json["said"]) == (0, True), safe
        lab.backend("B", 1).mode("broken", lying=True)
        for _ in range(21):
            lab.get()
        for words in (("status",), ("drain",), ("switch", "--to", "B")):
            answer = upswitch(lab, *words)
            said = str(answer.json.get("said", answer.json.get("findings")))
            assert (answer.exit, "21 of the last 42 requests to B failed" in said) == (3, True), answer
        assert upswitch(lab, "status").json["requests"].startswith("21 of the last 42")


def test_without_nginx_nothing_is_called_safe(any_nginx):
    with Lab(any_nginx, ONE_EACH) as lab:
        its, site = switch(lab, "B")
        lab.stop_nginx()
        report = drained.drained(its, site)
        assert not report.is_safe
        assert "not running" in report.said
