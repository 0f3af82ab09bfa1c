"""What every section of the settings is made of: a frozen pydantic model, and the scalar types of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic import ValidationError as PydanticError
from pydantic_core import PydanticCustomError

from modelport.config.rules import is_host, is_path, network_fault
from modelport.config.secrets import Secret, SecretSources, expanded, is_reference
from modelport.core.names import NAME_RULE, is_name
from modelport.core.proxies import proxy_fault

T = TypeVar("T")


class Section(BaseModel):
    """A mapping of the configuration: frozen, no unknown keys. `null` is the default, unless it has a meaning.

    A section is another's default by `model_construct()`: to validate it would build its schema at import.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, defer_build=True
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or cls._takes_null(key)}

    @classmethod
    def _takes_null(cls, key: str) -> bool:
        known = cls.model_fields.get(key)
        return known is None or _admits_none(known.annotation)


def _admits_none(annotation: Any) -> bool:
    return annotation is Any or type(None) in getattr(annotation, "__args__", ())


def refuse(what: str) -> PydanticCustomError:
    """The error that a validator raises. `what` is shown as it is and holds no secret."""
    return PydanticCustomError("refused", "{what}", {"what": what})


def described(what: str) -> WrapValidator:
    """One plain sentence instead of one error per arm of a union."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except PydanticError:
            raise refuse(f"{shown(value)} is not {what}") from None

    return WrapValidator(validate)


def shown(value: Any) -> str:
    """A value in a message: short and printable."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def _name(value: str) -> str:
    if not is_name(value):
        raise refuse(f"{shown(value)}: {NAME_RULE}")
    return value


def _text_of_number(value: Any) -> Any:
    """`version: 2` is meant as text; `version: 1.10` would already have lost its zero."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        raise refuse(f"{value} is a number; put it in quotes")
    return value


def _path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str | Path):
        return value
    if not is_path(str(value)):
        raise refuse("is not a path")
    if isinstance(info.context, SecretSources):
        return expanded(str(value), info.context.directory, info.context.environ)
    return expanded(str(value), Path(), {})


def _host(value: str) -> str:
    if not is_host(value):
        raise refuse(f"{shown(value)} is neither an IP address nor a host name")
    return value


def _network(value: str) -> str:
    if (fault := network_fault(value)) is not None:
        raise refuse(f"{shown(value)} {fault}")
    return value


def url_fault(value: str, schemes: tuple[str, ...] = ("http", "https")) -> str | None:
    """Why this is no usable URL, or None. A password inside the URL is never repeated."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in schemes:
        return f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if not host:
        return "names no host"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password"
    if any(char.isspace() or not char.isprintable() for char in value):
        return "holds a space or control character"
    return None


def _url(value: str) -> str:
    fault = url_fault(value)
    if fault is not None:
        raise refuse(fault)
    return value


def _proxy_of_text(value: Any) -> Any:
    """An address that needs no password is written as it is."""
    if not isinstance(value, str) or is_reference(value):
        return value
    if (fault := url_fault(value)) is not None:
        raise refuse(f"{fault}; write env:NAME or file:PATH" if "password" in fault else fault)
    return Secret(value, "the configuration")


def _proxy(value: Secret) -> Secret:
    if (fault := proxy_fault(value.reveal())) is not None:
        raise refuse(f"the value from {value.origin} {fault}")
    return value


def _origin(value: str) -> str:
    if value == "*":
        return value
    fault = url_fault(value)
    if fault is None and (urlsplit(value).path or urlsplit(value).query):
        fault = "is scheme://host[:port] and nothing after it"
    if fault is not None:
        raise refuse(fault)
    return value


def _moment(value: Any) -> Any:
    """`2027-01-31` is the start of that day, and a time without a zone is UTC."""
    if not isinstance(value, str):
        raise refuse(f"{shown(value)} is not a date like 2027-01-31 or 2027-01-31T12:00:00Z")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise refuse(f"{shown(value)} is not a date like 2027-01-31 or 2027-01-31T12:00:00Z") from None
    if len(value) <= len("2027-01-31"):
        moment = datetime.combine(moment.date(), time())
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _pattern(value: str) -> str:
    from modelport.safety.rules.regexes import fault_of  # RE2 is loaded where a pattern is

    if (fault := fault_of(value)) is not None:
        raise refuse(fault)
    return value


def exact(value: Any) -> Any:
    """Money: a binary fraction is not the amount that was written."""
    if isinstance(value, float):
        raise refuse(f"{value} is a number; put it in quotes")
    return value


def at_most(limit: int, what: str) -> Callable[[Any], Any]:
    """Bounds a collection before anything is made of it."""

    def check(value: Any) -> Any:
        if len(value) > limit:
            raise refuse(f"has more than {limit} {what}")
        return value

    return check


Name = Annotated[str, AfterValidator(_name)]
Word = Annotated[str, Field(min_length=1, max_length=256)]
Version = Annotated[str, Field(min_length=1, max_length=64), BeforeValidator(_text_of_number)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Host = Annotated[str, AfterValidator(_host)]
Network = Annotated[str, AfterValidator(_network)]
Proxy = Annotated[Secret, BeforeValidator(_proxy_of_text), AfterValidator(_proxy)]
Url = Annotated[str, AfterValidator(_url)]
Origin = Annotated[str, AfterValidator(_origin)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 366)]
Count = Annotated[int, Field(ge=1, le=2**53)]
