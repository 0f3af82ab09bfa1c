"""LiteLLM's `config.yaml` as a configuration: entries of one `model_name` are the targets of one deployment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Final

from modelport.cli.importing.result import Imported, NotImportable, variable_for
from modelport.core.names import is_name

HOSTS: Final[Mapping[str, str]] = {
    "openai": "openai",
    "text-completion-openai": "openai",
    "azure": "azure_openai",
    "azure_ai": "azure_inference",
    "groq": "groq",
    "deepseek": "deepseek",
    "mistral": "mistral",
    "openrouter": "openrouter",
    "fireworks_ai": "fireworks",
    "cerebras": "cerebras",
    "nvidia_nim": "nvidia",
    "xai": "xai",
    "together_ai": "together",
    "hosted_vllm": "vllm",
    "vllm": "vllm",
    "ollama": "ollama",
    "ollama_chat": "ollama",
}
"""LiteLLM's providers that speak OpenAI's API, and the known host of each."""
ELSEWHERE: Final = (
    "openai",
    "lm_studio",
    "llamafile",
    "litellm_proxy",
    "xinference",
    "lemonade",
    "docker_model_runner",
)
"""Those that speak it wherever `api_base` leads."""
USUAL_KEYS: Final[Mapping[str, str]] = {
    "openai": "OPENAI_API_KEY",
    "text-completion-openai": "OPENAI_API_KEY",
    "azure": "AZURE_API_KEY",
    "azure_ai": "AZURE_AI_API_KEY",
    "groq": "GROQ_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "mistral": "MISTRAL_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "fireworks_ai": "FIREWORKS_AI_API_KEY",
    "cerebras": "CEREBRAS_API_KEY",
    "nvidia_nim": "NVIDIA_NIM_API_KEY",
    "xai": "XAI_API_KEY",
    "together_ai": "TOGETHERAI_API_KEY",
}
"""The variable that LiteLLM reads where an entry has no key."""
FORMATS: Final[Mapping[str, str]] = {
    "openai": "OpenAI",
    "azure": "OpenAI",
    "mistral": "Mistral AI",
    "deepseek": "DeepSeek",
    "xai": "xAI",
}
ENTRA: Final = ("tenant_id", "client_id", "client_secret")
"""What an entry of Azure has where an application of Entra signs in, instead of a key."""
MODES: Final = (None, "chat", "completion", "embedding", "responses")
TAKEN: Final = {
    *("model", "custom_llm_provider", "api_key", "api_base", "base_url", "api_version", "organization"),
    *("rpm", "tpm", "weight", "order", "timeout", "max_parallel_requests"),
    *ENTRA,
}
"""Parameters of an entry that have a counterpart."""
SECTIONS: Final = ("model_list", "router_settings", "litellm_settings", "general_settings")
REFERENCE: Final = "os.environ/"
SHUFFLE: Final = "simple-shuffle"
WITHOUT: Final[Mapping[str, Mapping[str, str]]] = {
    "router_settings": {
        "num_retries": "each further target is tried once, before the first event of an answer",
        "redis_host": "set `redis_url` where several servers share limits",
        "redis_url": "set `redis_url` where several servers share limits",
    },
    "litellm_settings": {
        "num_retries": "each further target is tried once, before the first event of an answer",
        "success_callback": "calls are in the journal, the ledger and the metrics",
        "failure_callback": "calls are in the journal, the ledger and the metrics",
        "callbacks": "calls are in the journal, the ledger and the metrics",
        "cache": "answers are not cached",
    },
    "general_settings": {
        "database_url": "its keys, users and spend stay where they are; make keys with `modelport keys new`",
        "store_model_in_db": "models that are in its database are not in this file",
        "alerting": "`budgets.webhook` receives what budgets have used",
    },
}
NO_COUNTERPART: Final = "has no counterpart"


def import_litellm(document: Mapping[str, Any], environ: Mapping[str, str]) -> Imported:
    """`environ` has the addresses that the file refers to. Raises NotImportable."""
    entries = document.get("model_list")
    if not isinstance(entries, list):
        raise NotImportable("it has no model_list")
    into = Imported()
    importer = _Importer(into, environ)
    for index, entry in enumerate(entries):
        importer.add(f"model_list[{index}]", entry if isinstance(entry, Mapping) else {})
    sections = {name: document.get(name) or {} for name in SECTIONS[1:]}
    importer.finish(sections["router_settings"], sections["litellm_settings"])
    server(sections["general_settings"], into)
    for name in document:
        if name not in SECTIONS:
            into.note(name, NO_COUNTERPART)
    if not into.configuration["deployments"]:
        raise NotImportable("; ".join(["no model of it can be taken over", *(f"{p}: {w}" for p, w in into.notes)]))
    return into


class _Importer:
    """Entries become providers and targets, and then deployments."""

    def __init__(self, into: Imported, environ: Mapping[str, str]) -> None:
        self._into = into
        self._environ = environ
        self._deployments = into.configuration["deployments"]
        self._names: dict[str, str] = {}
        """LiteLLM's `model_name` → ours."""

    def add(self, place: str, entry: Mapping[str, Any]) -> None:
        """One entry of `model_list`."""
        name, info = str(entry.get("model_name")), entry.get("model_info") or {}
        parameters = entry.get("litellm_params") or {}
        model = str(parameters.get("model", ""))
        kind, slash, upstream = model.partition("/")
        if not slash:
            kind, upstream = "openai", model
        kind = str(parameters.get("custom_llm_provider") or kind)
        if not upstream:
            self._into.note(place, f"{name}: it names no model")
            return
        if "*" in name or "*" in model:
            self._into.note(place, f"{name}: a deployment answers for one model; name each")
            return
        if info.get("mode") not in MODES:
            self._into.note(place, f"{name}: {info['mode']} is not served in this version")
            return
        provider = self._provider(place, kind, parameters)
        own = self._own_name(name)
        if provider is None or own is None:
            return
        for key in parameters:
            if key.startswith("azure_ad_token"):
                self._into.note(f"{place}.litellm_params.{key}", "give the provider a `credential`")
            elif key not in TAKEN:
                self._into.note(f"{place}.litellm_params.{key}", "is not added to requests; the caller says it")
        for key in info:
            if "cost_per" in key:
                self._into.note(f"{place}.model_info.{key}", "belongs into a price list (`prices.file`)")
        known = str(info.get("base_model") or upstream).rpartition("/")[2]
        body = self._deployments.setdefault(own, {"model": {"format": FORMATS.get(kind, "Custom"), "name": known}})
        target: dict[str, Any] = {"provider": provider, "model": upstream}
        target |= {"weight": w} if isinstance(w := parameters.get("weight"), int) and w > 1 else {}
        target |= {"priority": p} if isinstance(p := parameters.get("order"), int) and p > 0 else {}
        body.setdefault("targets", []).append(target)
        self._limit(body, parameters)
        if isinstance(seconds := parameters.get("timeout"), int | float):
            body["timeouts"] = {"whole": seconds}

    def finish(self, router: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """What is said of all entries, and of the whole."""
        own = {name: list(body["targets"]) for name, body in self._deployments.items()}
        for fallbacks in (router.get("fallbacks"), settings.get("fallbacks")):
            for name, others in pairs(fallbacks):
                self._fall_back(name, others, own)
        for alias, meant in (router.get("model_group_alias") or {}).items():
            group = meant.get("model_name") if isinstance(meant, Mapping) else meant
            if (known := self._names.get(str(group))) is not None and is_name(str(alias)):
                self._deployments[str(alias)] = deepcopy(self._deployments[known])
            else:
                self._into.note(f"router_settings.model_group_alias.{alias}", NO_COUNTERPART)
        whole = settings.get("request_timeout") or router.get("timeout")
        for body in self._deployments.values():
            if isinstance(whole, int | float):
                body.setdefault("timeouts", {"whole": whole})
            simplify(body)
        if settings.get("drop_params") is True:
            self._into.configuration["extra_parameters"] = "drop"
        if router.get("routing_strategy", SHUFFLE) != SHUFFLE:
            self._into.note("router_settings.routing_strategy", "targets are chosen by priority and weight")
        taken = {
            "router_settings": ("fallbacks", "model_group_alias", "timeout", "routing_strategy"),
            "litellm_settings": ("fallbacks", "request_timeout", "drop_params"),
        }
        for section, found in (("router_settings", router), ("litellm_settings", settings)):
            note_rest(section, found, taken[section], self._into)

    def _provider(self, place: str, kind: str, parameters: Mapping[str, Any]) -> str | None:
        """The provider's name; None: nothing here speaks to it."""
        base = str(parameters.get("api_base") or parameters.get("base_url") or "")
        if base.startswith(REFERENCE):
            variable = base.removeprefix(REFERENCE)
            base = self._environ.get(variable, "")
            if not base:
                self._into.note(place, f"its address is in the variable {variable}, which is not set here")
                return None
        body: dict[str, Any] = {"type": "openai_compatible"}
        if kind in HOSTS and not (kind == "openai" and base):
            body["host"] = HOSTS[kind]
        elif kind not in ELSEWHERE:
            self._into.note(
                place, f"no adapter speaks to {kind!r}; one that speaks OpenAI's API can be set as api_base"
            )
            return None
        if base:
            body["base_url"] = address(kind, base)
        elif kind in ("azure", "azure_ai", *ELSEWHERE[1:]):
            self._into.note(place, "it has no api_base")
            return None
        if kind in ("azure", "azure_ai") and parameters.get("api_version"):
            self._into.note(
                f"{place}.litellm_params.api_version", "the endpoint that is used here has versions of its own"
            )
        if parameters.get("organization") and not str(parameters["organization"]).startswith(REFERENCE):
            body["organization"] = str(parameters["organization"])
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", kind).strip("-._") or "upstream"
        if kind in ("azure", "azure_ai") and all(isinstance(parameters.get(part), str) for part in ENTRA):
            body["credential"] = {"type": "client_secret", **self._application(place, name, parameters)}
            return self._named(name, body)
        usual = REFERENCE + USUAL_KEYS[kind] if kind in USUAL_KEYS and "host" in body else None
        if (key := self._key(place, name, parameters.get("api_key") or usual)) is not None:
            body["api_key"] = key
        return self._named(name, body)

    def _key(self, place: str, name: str, key: Any) -> str | None:
        if not isinstance(key, str) or not key:
            return None
        if key.startswith(REFERENCE):
            return f"env:{key.removeprefix(REFERENCE)}"
        variable = variable_for(name)
        self._into.note(
            f"{place}.litellm_params.api_key", f"is written in the file; put it into the variable {variable}"
        )
        return f"env:{variable}"

    def _application(self, place: str, name: str, parameters: Mapping[str, Any]) -> dict[str, str]:
        found = {part: f"env:{parameters[part].removeprefix(REFERENCE)}" for part in ENTRA}
        found |= {part: parameters[part] for part in ENTRA[:2] if not parameters[part].startswith(REFERENCE)}
        if not parameters["client_secret"].startswith(REFERENCE):
            variable = f"{variable_for(name).removesuffix('_KEY')}_CLIENT_SECRET"
            found["client_secret"] = f"env:{variable}"
            what = f"is written in the file; put it into the variable {variable}"
            self._into.note(f"{place}.litellm_params.client_secret", what)
        return found

    def _named(self, name: str, body: Mapping[str, Any]) -> str:
        """A provider that is the same, else a new one of this name, or with a number."""
        providers = self._into.configuration["providers"]
        for number in range(1, len(providers) + 2):
            own = name if number == 1 else f"{name}-{number}"
            if providers.setdefault(own, dict(body)) == body:
                return own
        raise AssertionError("a number is always free")

    def _own_name(self, name: str) -> str | None:
        own = self._names.get(name)
        if own is None:
            own = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64]
            if not is_name(own):
                self._into.note(name, "cannot be a deployment's name")
                return None
            if own != name:
                self._into.note(name, f"is called {own} here; callers ask for that")
            self._names[name] = own
        return own

    def _limit(self, body: dict[str, Any], parameters: Mapping[str, Any]) -> None:
        """Rates of one entry are added to those of the others; one without a rate makes the whole unlimited."""
        limits = body.get("limits")
        is_first = limits is None
        limits = body.setdefault("limits", {})
        for key, own in (
            ("rpm", "requests_per_minute"),
            ("tpm", "tokens_per_minute"),
            ("max_parallel_requests", "concurrent_requests"),
        ):
            value = parameters.get(key)
            rate = value if isinstance(value, int) and value > 0 else None
            before = 0 if is_first else limits.get(own)
            limits[own] = None if rate is None or before is None else before + rate

    def _fall_back(self, name: str, others: Iterable[str], own: Mapping[str, Any]) -> None:
        known = self._names.get(name)
        if known is None:
            self._into.note(f"fallbacks.{name}", NO_COUNTERPART)
            return
        targets = self._deployments[known]["targets"]
        for other in others:
            found = own.get(self._names.get(str(other), ""))
            if found is None:
                self._into.note(f"fallbacks.{name}", f"{other} is not among the models that were taken over")
                continue
            above = max(target.get("priority", 0) for target in targets) + 1
            targets += [{**target, "priority": above + target.get("priority", 0)} for target in found]


def simplify(body: dict[str, Any]) -> None:
    """One target whose model is the deployment's own is a provider."""
    targets = body["targets"]
    if len(targets) == 1 and targets[0] == {"provider": targets[0]["provider"], "model": body["model"]["name"]}:
        body["provider"] = body.pop("targets")[0]["provider"]


def address(kind: str, base: str) -> str:
    """Everything before `/chat/completions`, for the endpoint that the host is spoken to at."""
    base = base.rstrip("/")
    if kind == "azure":
        return base if base.endswith("/openai/v1") else f"{base.removesuffix('/openai')}/openai/v1"
    if kind == "azure_ai":
        return base if base.endswith("/models") else f"{base}/models"
    return f"{base}/v1" if kind in ("ollama", "ollama_chat") and not base.endswith("/v1") else base


def pairs(fallbacks: Any) -> Iterable[tuple[str, list[str]]]:
    """`[{name: [others]}]` one by one."""
    for item in fallbacks if isinstance(fallbacks, list) else ():
        for name, others in item.items() if isinstance(item, Mapping) else ():
            yield str(name), [str(other) for other in others] if isinstance(others, list) else []


def server(general: Mapping[str, Any], into: Imported) -> None:
    """The operator's key."""
    key = general.get("master_key")
    if isinstance(key, str) and key.startswith(REFERENCE):
        into.configuration["auth"] = {"keys": [f"env:{key.removeprefix(REFERENCE)}"]}
    elif key:
        into.configuration["auth"] = {"keys": ["env:MODELPORT_API_KEY"]}
        into.note("general_settings.master_key", "is written in the file; put it into the variable MODELPORT_API_KEY")
    note_rest("general_settings", general, ("master_key",), into)


def note_rest(section: str, found: Mapping[str, Any], taken: Iterable[str], into: Imported) -> None:
    """Every setting that was not taken over."""
    for key, value in found.items():
        if key not in taken and value not in (None, False, [], {}):
            into.note(f"{section}.{key}", WITHOUT[section].get(key, NO_COUNTERPART))
