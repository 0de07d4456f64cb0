"""What a probe of each type says on an open connection, and how it judges the answer."""

from collections.abc import Callable
from functools import partial

from upswitch.basics.value import Value
from upswitch.health.types import ajp, fastcgi, http, mysql, tls
from upswitch.health.types.answer import Answer
from upswitch.site.probe import GateRule
from upswitch.site.words import CheckType, Dialect


class Question(Value):
    """`judge` is asked anew with all bytes so far, each time that more have come. `part` is what an answer may end inside of."""

    part: str
    say: bytes
    judge: Callable[[bytes], Answer]


def question(rule: GateRule, hello: Callable[[Dialect], bytes]) -> Question | None:
    """`hello` makes a TLS ClientHello. None for tcp, which only connects."""
    match rule.type:
        case CheckType.TCP:
            return None
        case CheckType.HTTP:
            judge = partial(http.judge, alive=rule.http_expect_alive)
            return Question(part="the status line", say=rule.http_send.encode("latin-1"), judge=judge)
        case CheckType.SSL_HELLO:
            return Question(part="the TLS hello", say=hello(rule.dialect), judge=tls.judge)
        case CheckType.MYSQL:
            return Question(part="the MySQL greeting", say=b"", judge=mysql.judge)
        case CheckType.AJP:
            return Question(part="the AJP CPong", say=ajp.CPING, judge=ajp.judge)
        case CheckType.FASTCGI:
            judge = partial(fastcgi.judge, alive=rule.http_expect_alive, dialect=rule.dialect)
            say = fastcgi.request(rule.fastcgi_param, rule.dialect)
            return Question(part="the first FastCGI record", say=say, judge=judge)
