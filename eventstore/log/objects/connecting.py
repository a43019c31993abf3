"""From a URL of S3, Google or Azure to a bucket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from eventstore import errors
from eventstore.log.objects.bucket import Bucket

_OPTIONS: Final = {
    "s3": ("endpoint", "region", "allow_http", "profile", "virtual_hosted_style_request"),
    "gs": ("endpoint", "allow_http"),
    "az": ("account", "endpoint", "allow_http"),
}
_AWS_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_ALLOW_HTTP: Final = {
    "s3": "AWS_ALLOW_HTTP",
    "gs": "GOOGLE_ALLOW_HTTP",
    "az": "AZURE_ALLOW_HTTP",
}
_TRUE: Final = frozenset(("1", "true", "yes", "on"))
_FALSE: Final = frozenset(("0", "false", "no", "off"))

_CONNECT_TIMEOUT: Final = "4s"
_SMALL: Final = {"connect_timeout": _CONNECT_TIMEOUT, "timeout": "10s"}
_LARGE: Final = {"connect_timeout": _CONNECT_TIMEOUT, "timeout": "300s"}

_CONNECTION_STRING: Final = "AZURE_STORAGE_CONNECTION_STRING"


def of_url(text: str) -> Bucket:
    """The bucket and prefix that a URL names: `s3://bucket/prefix?options`, `gs://` or `az://`.

    Credentials are those of the environment, as each cloud's own tools find them. Raises
    InvalidArgumentError for what cannot be read, and for options that there are not,
    FailedPreconditionError for an endpoint that is not encrypted, unless that is allowed.
    """
    parts = urlsplit(text)
    scheme = parts.scheme
    if "@" in parts.netloc:
        raise errors.InvalidArgumentError(
            f"credentials do not belong into {scheme} URLs: leave out what stands before the @"
        )
    if not parts.netloc:
        raise errors.InvalidArgumentError(
            f"this {scheme} URL names no bucket: write {scheme}://bucket/prefix"
        )
    prefix = _prefix_of(parts)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = options.keys() - set(_OPTIONS[scheme])
    if unknown:
        raise errors.InvalidArgumentError(
            f"there is no option {min(unknown)} of {scheme} URLs: they have "
            f"{', '.join(_OPTIONS[scheme])}"
        )
    if options.get("endpoint") == "":
        raise errors.InvalidArgumentError(
            f"the option endpoint of this {scheme} URL is empty: write http://host:port or leave "
            "it out"
        )
    of, config, endpoint = {"s3": _s3, "gs": _google, "az": _azure}[scheme](options)
    allows_http = _allows_http(scheme, options)
    _refuse_endpoint(scheme, endpoint, allows_http=allows_http)

    def at(prefix: str) -> Bucket:
        name = f"{scheme}://{parts.netloc}" + (f"/{prefix}" if prefix else "")
        try:
            small, large = (
                of(
                    parts.netloc,
                    prefix=prefix or None,
                    client_options=times | ({"allow_http": True} if allows_http else {}),
                    retry_config={"max_retries": 0},
                    **config,
                )
                for times in (_SMALL, _LARGE)
            )
        except (BaseError, ValueError, OSError) as error:
            # Its words may have what the environment says.
            raise errors.InvalidArgumentError(
                f"the options of {name} cannot be used ({type(error).__name__}): check them and "
                "the environment"
            ) from None
        above = partial(at, prefix.rpartition("/")[0]) if prefix else lambda: None
        return Bucket(name, small, large, endpoint, above=above)

    return at(prefix)


def _prefix_of(parts: SplitResult) -> str:
    """The prefix that a URL names, decoded."""
    scheme = parts.scheme
    if parts.fragment:
        raise errors.InvalidArgumentError(
            f"this {scheme} URL has a #, which ends what it names: write %23"
        )
    try:
        prefix = unquote(parts.path, errors="strict").strip("/")
    except UnicodeDecodeError:
        raise errors.InvalidArgumentError(
            f"what is percent-encoded in this {scheme} URL is no UTF-8: write it anew"
        ) from None
    if not prefix.isprintable():
        raise errors.InvalidArgumentError(
            f"the prefix of this {scheme} URL has characters that cannot be seen: leave them out"
        )
    for part in prefix.split("/") if prefix else ():
        if part in ("", ".", ".."):
            raise errors.InvalidArgumentError(
                f"the prefix of this {scheme} URL has "
                + (f"the part {part!r}" if part else "an empty part")
                + ", which no prefix can have: leave it out"
            )
    return prefix


def _allows_http(scheme: str, options: Mapping[str, str]) -> bool:
    """Whether the URL, or else the environment, allows endpoints that are not encrypted."""
    if "allow_http" in options:
        return _is_true(options, "allow_http")
    text = os.environ.get(_ALLOW_HTTP[scheme], "false").lower()
    if text not in _TRUE | _FALSE:
        raise errors.InvalidArgumentError(f"{_ALLOW_HTTP[scheme]} has to be true or false")
    return text in _TRUE


def _refuse_endpoint(scheme: str, endpoint: str, *, allows_http: bool) -> None:
    """Raise the error for an endpoint that cannot be used."""
    parts = urlsplit(endpoint)
    if "@" in endpoint:
        # It is told in the folder for caches.
        raise errors.InvalidArgumentError(
            f"credentials do not belong into the endpoint of {scheme}: leave out what stands "
            "before the @"
        )
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise errors.InvalidArgumentError(
            f"the endpoint of {scheme} is {endpoint!r}, by the URL or the environment: write "
            "http://host:port or https://host"
        )
    if parts.scheme == "http" and not allows_http:
        raise errors.FailedPreconditionError(
            f"the endpoint {endpoint} is not encrypted: write https://, say allow_http=true in the "
            f"URL, or set {_ALLOW_HTTP[scheme]}=true"
        )


def _is_true(options: Mapping[str, str], name: str) -> bool:
    """Whether the option is said and true. Raises InvalidArgumentError if it is neither."""
    text = options.get(name, "false").lower()
    if text not in _TRUE | _FALSE:
        raise errors.InvalidArgumentError(
            f"the option {name} has to be true or false: write {name}=true, or leave it out"
        )
    return text in _TRUE


def _s3(options: Mapping[str, str]) -> tuple[Any, dict[str, Any], str]:
    config: dict[str, Any] = {
        name: options[name] for name in ("endpoint", "region") if name in options
    }
    if "virtual_hosted_style_request" in options:
        config["virtual_hosted_style_request"] = _is_true(options, "virtual_hosted_style_request")
    config |= _of_profile(options.get("profile") or os.environ.get("AWS_PROFILE"))
    region = (
        config.get("region")
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or "us-east-1"
    )
    told = [os.environ[name] for name in _AWS_ENDPOINTS if name in os.environ]
    if "" in told:
        # The library takes it for an endpoint.
        raise errors.InvalidArgumentError(f"one of {', '.join(_AWS_ENDPOINTS)} is empty: unset it")
    endpoint = (
        config.get("endpoint") or next(iter(told), None) or f"https://s3.{region}.amazonaws.com"
    )
    return S3Store, config | {"region": region}, endpoint


def _of_profile(profile: str | None) -> dict[str, Any]:
    """The credentials of a profile, or of the default one where the environment has none.

    Of boto3 where it is installed, which knows all kinds; else the keys that the file has.
    """
    if profile is None and ("AWS_ACCESS_KEY_ID" in os.environ or not _aws_file().is_file()):
        return {}
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return _keys_of_profile(profile)
    try:
        provider = Boto3CredentialProvider(boto3.Session(profile_name=profile))
    except Exception as error:
        # Of botocore; its words may have what the files say.
        raise errors.UnauthenticatedError(
            f"there are no credentials of the AWS profile {profile or 'default'} "
            f"({type(error).__name__}): check the files in ~/.aws"
        ) from None
    return {"credential_provider": provider, **provider.config}


def _keys_of_profile(profile: str | None) -> dict[str, Any]:
    path, name = _aws_file(), profile or "default"
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(path, "utf-8")
        found = dict(parser[name])
    except (OSError, ConfigError, KeyError, UnicodeDecodeError):
        found = {}
    if "aws_access_key_id" not in found or "aws_secret_access_key" not in found:
        if profile is None:
            return {}
        raise errors.UnauthenticatedError(
            f"{path} has no keys of the profile {name}: add them, or install boto3, which knows "
            "profiles of other kinds"
        )
    config = {
        "access_key_id": found["aws_access_key_id"],
        "secret_access_key": found["aws_secret_access_key"],
    }
    if "aws_session_token" in found:
        config["session_token"] = found["aws_session_token"]
    return config


def _aws_file() -> Path:
    named = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    return Path(named) if named else Path("~/.aws/credentials").expanduser()


def _google(options: Mapping[str, str]) -> tuple[Any, dict[str, Any], str]:
    config = {"base_url": options["endpoint"]} if "endpoint" in options else {}
    return GCSStore, config, options.get("endpoint") or "https://storage.googleapis.com"


def _azure(options: Mapping[str, str]) -> tuple[Any, dict[str, Any], str]:
    config: dict[str, Any] = {}
    told = os.environ.get(_CONNECTION_STRING, "")
    said = dict(part.split("=", 1) for part in told.split(";") if "=" in part)
    for name, key in (
        ("account_name", "AccountName"),
        ("account_key", "AccountKey"),
        ("sas_key", "SharedAccessSignature"),
        ("endpoint", "BlobEndpoint"),
    ):
        if key in said:
            config[name] = said[key].rstrip("/") if name == "endpoint" else said[key]
    if "account" in options:
        config["account_name"] = options["account"]
    if "endpoint" in options:
        config["endpoint"] = options["endpoint"]
    account = config.get("account_name") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise errors.InvalidArgumentError(
            "this az URL names no storage account: say account= in it, or set "
            "AZURE_STORAGE_ACCOUNT_NAME"
        )
    endpoint = (
        config.get("endpoint")
        or os.environ.get("AZURE_STORAGE_ENDPOINT")
        or os.environ.get("AZURE_ENDPOINT")
        or f"https://{account}.blob.{said.get('EndpointSuffix', 'core.windows.net')}"
    )
    return AzureStore, config, endpoint
