"""The files of a switch's generations, before any is written."""

from collections.abc import Callable, Mapping

import msgspec

from upswitch.core import checkedupstream, checkzone, generation, nginxconf, planning
from upswitch.core.errors import Refusal, RefusedError
from upswitch.core.generation import Manifest
from upswitch.core.planning import Names
from upswitch.core.rendering import MARKER, File, Rendering
from upswitch.core.site import Site
from upswitch.core.standby import STANDBY, Addresses, Standby, standbys
from upswitch.core.words import Dialect, Value
from upswitch.survey import Facts

_Render = Callable[[Site, Rendering, Mapping[str, str]], tuple[File, ...]]


class Making(Value):
    """What they are made from. `templates`: texts by name; `checked`: the servers under nginx's own check, by pool and upstream."""

    site: Site
    facts: Facts
    templates: Mapping[str, str]
    checked: Mapping[str, Addresses]

    def rendered(self, to: str, serving: Addresses) -> dict[str, bytes]:
        """A new generation: its pool serves, and every other server that is known stands by."""
        from upswitch.core.render import render  # noqa: PLC0415  (jinja2 takes 60 ms; only a switch needs it)

        return self._files(render, to, serving, self.facts.disk.manifest)

    def warm(self, names: Names, live: Mapping[str, bytes]) -> dict[str, bytes]:
        """What is live now, with every other server beside it as a standby."""
        from upswitch.core.render import render_ours  # noqa: PLC0415  (as above)

        manifest = self.facts.disk.manifest
        kept = {name: data for name, data in live.items() if name not in {MARKER, STANDBY}}
        ours = self._files(render_ours, names.warm, manifest.servers if manifest else {}, None)
        return {**planning.copied(kept, of=names.former, name=names.warm), **ours}

    def _files(self, render: _Render, to: str, serving: Addresses, former: Manifest | None) -> dict[str, bytes]:
        from upswitch.core.render import RenderError  # noqa: PLC0415  (as above)

        name = generation.parse_name(to)
        if name is None:
            highest = self.facts.disk.generations[-1].name
            raise RefusedError(
                Refusal(what=f"no number is left above generation {highest}", hint="remove that folder: it is not ours")
            )
        facts = self.facts
        found = standbys(self.site, serving, known=self.checked, former=former) if facts.dialect is not Dialect.NONE else ()
        rendering = planning.rendering(self.site.nginx, facts.build, facts.conf, name, dialect=facts.dialect)
        rendering = msgspec.structs.replace(
            rendering, standbys=found, check_shm_size=rendering.check_shm_size or self._zone(serving, found)
        )
        try:
            return planning.encoded(render(self.site, rendering, self.templates))
        except RenderError as exc:
            raise RefusedError(Refusal(what=f"template {exc}", hint="mend the template")) from exc

    def _zone(self, serving: Addresses, found: tuple[Standby, ...]) -> str:
        """A `check_shm_size` for all that is checked, standbys too; "" where somebody gives one, or the default will do."""
        facts = self.facts
        if facts.dialect is Dialect.NONE or nginxconf.defined_elsewhere(facts.conf, "check_shm_size", live=self.site.nginx.live):
            return ""
        others = [each for each in checkedupstream.of_conf(facts.conf) if not each.place.startswith(f"{self.site.nginx.live}/")]
        servers = [address for each in others for address in each.servers]
        servers += [address for each in serving.values() for address in each]
        servers += [address for each in found for address in each.addresses]
        is_enough = checkzone.is_enough(checkzone.DEFAULT, servers, facts.dialect)
        return "" if is_enough else checkzone.advised(servers, facts.dialect)
