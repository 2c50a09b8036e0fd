"""What pip is told by its files and variables, told to uv: indexes, certificates, constraints.

uv reads none of it by itself. Indexes can hold passwords, so they go on through the environment, where neither a list
of processes nor a message shows them.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_VARIABLES = {
    "index-url": "UV_INDEX_URL",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "client-cert": "SSL_CLIENT_CERT",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "retries": "UV_HTTP_RETRIES",
}
_BETWEEN = {"extra-index-url": " ", "find-links": ",", "trusted-host": " "}
"""Settings of several values: pip takes them apart at white space, uv at this."""
_WITHOUT_MEANING = frozenset(
    [
        *(
            "cache-dir",
            "color",
            "compile",
            "config-file",
            "debug",
            "disable-pip-version-check",
            "exists-action",
            "input",
        ),
        *("log", "log-file", "prefer-binary", "progress-bar", "python-version-warning", "quiet", "require-virtualenv"),
        *("root-user-action", "use-feature", "verbose", "warn-conflicts", "warn-script-location"),
    ]
)
"""Settings that change neither which files are installed nor where they come from; `no-` may stand before them."""
_OFF = frozenset({"", "0", "false", "no", "off", "n", "f"})


@dataclass(frozen=True, slots=True)
class UvSettings:
    """How uv is to be called so that it finds what pip would find."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """To be added to the environment."""
    options: tuple[str, ...] = ()
    """To be added to the command."""


def uv_settings(listing: str, environment: Mapping[str, str]) -> UvSettings | None:
    """Translate what `pip config list` says; None where uv has no word for one of the settings.

    Args:
        listing: The output: a line `section.name='value'` for each setting.
        environment: The variables there are; those meant for uv itself stay as they are.
    """
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}  # pip's: the best version of all indexes together
    options: list[str] = []
    for name, value in _settings(listing).items():
        if name in _VARIABLES:
            variables[_VARIABLES[name]] = _BETWEEN.get(name, " ").join(value.split())
        elif name == "cert":
            variables["SSL_CERT_DIR" if Path(value).is_dir() else "SSL_CERT_FILE"] = value
        elif name == "proxy":
            variables |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), value)
        elif name == "constraint":
            options += [word for file in value.split() for word in ("-c", file)]
        elif name == "no-index":
            options += [] if value.lower() in _OFF else ["--no-index"]
        elif name == "keyring-provider":
            variables["UV_KEYRING_PROVIDER"] = "subprocess" if value in ("subprocess", "import") else "disabled"
        elif name.removeprefix("no-") not in _WITHOUT_MEANING:
            return None
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # pip's downloads go through requests
        if environment.get(name) and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & variables.keys():
            variables["SSL_CERT_FILE"] = environment[name]
    told = {name: value for name, value in variables.items() if not (name.startswith("UV_") and name in environment)}
    return UvSettings(told, tuple(options))


def _settings(listing: str) -> dict[str, str]:
    """Return the settings of `pip install` by name: variables before its own section before the one for all."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        key, _, quoted = line.partition("=")
        section, _, name = key.partition(".")
        if section in found:
            found[section][name] = str(ast.literal_eval(quoted))
    return {**found["global"], **found["install"], **found[":env:"]}
