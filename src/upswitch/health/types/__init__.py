"""The check types. Each but tcp has a file that says what a probe of it sends and how its answer is read.

A new type is a file here, its row in `PROBE_TYPES`, and its word in `site.model.CheckType`, from which the site file's reader takes
the words that it allows. Types import `site` and `basics`, and no other room. Begin with `answer.py`, then `ajp.py`.
"""

from collections.abc import Mapping

from upswitch.health.types import ajp, fastcgi, http, mysql, tls
from upswitch.health.types.answer import ProbeType
from upswitch.site.model import CheckType

PROBE_TYPES: Mapping[CheckType, ProbeType | None] = {
    CheckType.TCP: None,
    CheckType.HTTP: http.TYPE,
    CheckType.SSL_HELLO: tls.TYPE,
    CheckType.MYSQL: mysql.TYPE,
    CheckType.AJP: ajp.TYPE,
    CheckType.FASTCGI: fastcgi.TYPE,
}
"""By the word in the site file. None: an open connection is enough."""
