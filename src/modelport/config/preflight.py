"""What a start needs beyond a valid configuration: files, certificates, drivers, a safe address. Writes nothing.

`modelport check` and `modelport serve` ask the same questions here, so one finds what the other finds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Final, Literal, NamedTuple

from modelport.config.adapters import adapter
from modelport.config.default_filter import default_content_filter, has_classifier
from modelport.config.deployments import InlineProviderSettings, ProviderSettings
from modelport.config.embedded import embedded
from modelport.config.faults import ConfigError, Path, printable
from modelport.config.listen import unsafe_listening
from modelport.config.profiles import load_profiles
from modelport.config.secrets import PLACEHOLDER, Secret
from modelport.config.settings import Settings
from modelport.control.profiles import ProfileError
from modelport.core.safety import BUILT_IN
from modelport.engine.weights.catalogue import CATALOGUE
from modelport.engine.weights.faults import WeightsError
from modelport.engine.weights.places import locate
from modelport.stores.sql.address import DatabaseAddressError, DriverMissing, address_of, check_driver

GGUF_MAGIC: Final = b"GGUF"
REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://")
NO_SECRETS_KEY: Final = (
    "is required with PostgreSQL, the same for all its servers: at least 32 random characters in env:NAME, file:PATH "
    "or MODELPORT_SECRETS_KEY"
)
NEEDS_CLASSIFIER: Final = frozenset({"classifier", "image", "prompt_attack"})
"""Filters that run in the embeddings worker."""
NEEDED_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "llama_cpp": ("xllamacpp", "jsonschema_rs"),
    "onnx_embeddings": ("onnxruntime", "tokenizers", "numpy"),
    "onnx_image_embeddings": ("onnxruntime", "tokenizers", "numpy", "PIL"),
}


class Problem(NamedTuple):
    """Why the server cannot start. `kind` decides the exit code of `modelport serve`."""

    kind: Literal["listen", "tls", "store", "provider", "profile", "extra", "weights"]
    path: Path
    what: str


def problems(settings: Settings) -> Iterator[Problem]:
    """Everything outside the configuration that keeps this server from starting."""
    if (unsafe := unsafe_listening(settings)) is not None:
        yield Problem("listen", ("server", "host"), unsafe)
    yield from _tls(settings)
    yield from _issuers(settings)
    yield from _stores(settings)
    yield from _providers(settings)
    yield from _profiles(settings)
    yield from _filters(settings)
    for path, kind, options, model in engines(settings):
        missing = [module for module in NEEDED_MODULES[kind] if importlib.util.find_spec(module) is None]
        if missing:
            names = ", ".join(missing)
            yield Problem("extra", path, f"needs {names}, not installed: pip install 'modelport[local]'")
        else:
            yield from _weights(path, kind, options, model, settings.server.data_dir)


def _tls(settings: Settings) -> Iterator[Problem]:
    tls = settings.server.tls
    if tls.cert is None or tls.key is None:
        return
    from modelport.config.tls import TlsFiles, server_context  # with it comes cryptography

    try:
        server_context(TlsFiles(tls.cert, tls.key, None))
    except ConfigError as error:
        yield from (Problem("tls", ("server", "tls", fault.key), fault.what) for fault in error.faults)


def _stores(settings: Settings) -> Iterator[Problem]:
    database, redis = settings.database_url, settings.redis_url
    try:
        if database is None or not is_placeholder(database):
            address = address_of(database.reveal() if database else None, settings.server.data_dir)
            check_driver(address)
            if address.kind == "postgresql" and settings.secrets_key is None:
                yield Problem("store", ("secrets_key",), NO_SECRETS_KEY)
    except DatabaseAddressError as error:
        yield Problem("store", ("database_url",), f"is no database address: {error}")
    except DriverMissing as error:
        yield Problem("extra", ("database_url",), f"{error}: pip install 'modelport[postgres]'")
    if redis is not None:
        if not is_placeholder(redis) and not redis.reveal().startswith(REDIS_SCHEMES):
            yield Problem("store", ("redis_url",), f"is no Redis address: it begins with {', '.join(REDIS_SCHEMES)}")
        elif importlib.util.find_spec("redis") is None:
            yield Problem("extra", ("redis_url",), "needs the package redis: pip install 'modelport[redis]'")
    elif settings.quota.store == "redis":
        yield Problem("store", ("quota", "store"), "redis needs a redis_url (or MODELPORT_REDIS_URL)")


def _providers(settings: Settings) -> Iterator[Problem]:
    """Opens each as a server does: its adapter reads the files that it needs."""
    named: list[tuple[Path, str, ProviderSettings]] = [
        (("providers", name), name, provider) for name, provider in settings.providers.items()
    ]
    for name, deployment in settings.deployments.items():
        if isinstance(deployment.provider, InlineProviderSettings):
            named.append((("deployments", name, "provider"), name, deployment.provider))
    for path, name, provider in named:
        if provider.type in NEEDED_MODULES:
            continue
        options, module = provider.options(), adapter(provider.type)
        authority = options.get("ca_file")
        if isinstance(authority, str) and (fault := authority_fault(authority)) is not None:
            yield Problem("provider", (*path, "ca_file"), fault)
        try:
            module.open(module.Settings.model_validate(options), name)
        except (ValueError, OSError) as error:
            yield Problem("provider", path, printable(str(error), 300))


def authority_fault(file: str) -> str | None:
    """Why no certificate authority is in this file, or None."""
    import ssl

    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:
        return f"{file!r}: {'holds no PEM certificate' if isinstance(error, ssl.SSLError) else error.strerror}"
    return None


def _issuers(settings: Settings) -> Iterator[Problem]:
    for index, entry in enumerate(settings.auth.oidc):
        if entry.ca is not None and (fault := authority_fault(str(entry.ca))) is not None:
            yield Problem("tls", ("auth", "oidc", index, "ca"), fault)


def _profiles(settings: Settings) -> Iterator[Problem]:
    profiles = load_profiles()
    for name, deployment in settings.deployments.items():
        try:
            profiles.of(deployment.model.name, deployment.profile)
        except (ProfileError, TypeError, ValueError) as error:
            yield Problem("profile", ("deployments", name, "profile"), str(error))


def _filters(settings: Settings) -> Iterator[Problem]:
    """Filters that a deployment's policy needs, and that are not installed."""
    own = {name.lower(): given.filters for name, given in settings.content_filters.items()}
    known = {**{name.lower(): policy.filters for name, policy in BUILT_IN.items()}, **own}
    named: dict[Path, str | None] = {
        ("server", "default_content_filter"): default_content_filter(settings),
        **{("deployments", name, "content_filter"): d.content_filter for name, d in settings.deployments.items()},
    }
    for path, policy in named.items():
        needed = NEEDS_CLASSIFIER.intersection(known[policy.lower()]) if policy is not None else frozenset()
        if needed and not has_classifier(settings):
            *others, last = sorted(needed)
            filters = f"{', '.join(others)} and {last}" if others else last
            yield Problem("extra", path, f"{policy} needs the local {filters}: pip install 'modelport[local]'")


def is_placeholder(secret: Secret) -> bool:
    """Whether its value was not read."""
    return secret.reveal().startswith(PLACEHOLDER)


def engines(settings: Settings) -> Iterator[tuple[Path, str, ProviderSettings | None, str]]:
    """Everything that runs here: its place, its backend, its options, and the model whose weights it needs."""
    for name, provider in settings.providers.items():
        if provider.type in NEEDED_MODULES:
            yield ("providers", name), provider.type, provider, name
    catalogue = {entry.name.lower() for entry in settings.models}
    for name, deployment in settings.deployments.items():
        model, given = deployment.model.name, deployment.provider
        if isinstance(given, InlineProviderSettings) and given.type in NEEDED_MODULES:
            yield ("deployments", name, "provider"), given.type, given, model
        elif given is None and deployment.targets is None and model.lower() not in catalogue:
            weights = embedded(model)
            if weights is not None:
                yield ("deployments", name), weights.backend, None, weights.name
    if not settings.deployments:
        yield from ((("deployments",), item.backend, None, item.name) for item in CATALOGUE.values() if item.default)


def _weights(
    path: Path, kind: str, provider: ProviderSettings | None, model: str, data_dir: FilePath
) -> Iterator[Problem]:
    given = provider.options().get("weights") if provider is not None else None
    if given is not None:
        what = file_fault(str(given), kind)
        if what is not None:
            yield Problem("weights", (*path, "weights"), what)
        return
    weights = embedded(model)
    if weights is None or weights.backend != kind:
        yield Problem("weights", path, f"names no `weights`, and no embedded {kind} model is {model!r}")
        return
    try:
        if locate(weights.name, data_dir) is None:
            remedy = "modelport models pull default"
            if not weights.default:
                remedy = f"modelport models pull {weights.name} && modelport serve --model {weights.name}"
            yield Problem("weights", path, f"the weights of {weights.name!r} are not here: `{remedy}`")
    except WeightsError as error:
        yield Problem("weights", path, str(error))


def file_fault(weights: str, kind: str) -> str | None:
    """Why this is no file of weights, or None."""
    if "://" in weights:
        return f"{weights!r} is a URL; weights are a file on this machine, so download it first"
    file = FilePath(weights)
    if file.is_dir():
        return f"{weights!r} is a folder; name the file in it"
    if not file.is_file():
        return f"there is no file {weights!r}"
    try:
        with file.open("rb") as opened:
            begin = opened.read(len(GGUF_MAGIC))
    except OSError as error:
        return f"{weights!r} cannot be read: {error.strerror}"
    if kind == "llama_cpp" and begin != GGUF_MAGIC:
        return f"{weights!r} is no GGUF file"
    return None
