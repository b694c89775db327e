"""What can be known of an image that somebody else built: where it is in ECR, and for which architecture it is."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from asyncjobs.aws import is_denied
from asyncjobs.errors import ConfigError
from asyncjobs.image.architecture import OF_IMAGES, Architecture

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_ecr.type_defs import ImageIdentifierTypeDef

# Without them ECR may answer with a manifest in an older form, whose digest is another.
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/"
    r"(?P<name>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>.+))?\Z"
)
_DEFAULT: Architecture = "x86_64"


def ecr_repository_arn(uri: str, partition: str) -> str:
    """The ARN of the ECR repository that an image URI names, "" where it is elsewhere."""
    match = _URI.match(uri)
    return f"arn:{partition}:ecr:{match['region']}:{match['account']}:repository/{match['name']}" if match else ""


def architecture_of(uri: str, wanted: Architecture | Literal["auto"], ecr: ECRClient) -> Architecture:
    """The architecture for tasks of this image.

    ECR is asked, in the client's region. Of any other image, and of one that must not be read, the configuration
    decides; "auto" is x86_64 then.

    Raises:
        ConfigError: ECR has no such image, or not for the architecture that is wanted.
    """
    has = _architectures(uri, ecr) or [_DEFAULT if wanted == "auto" else wanted]
    if wanted == "auto":
        return _DEFAULT if _DEFAULT in has else has[0]
    if wanted not in has:
        raise ConfigError(
            f"{uri} is for {' and '.join(has)}, and [worker] architecture is {wanted!r}.",
            why="A task of another architecture would die with `exec format error`.",
            hint='Leave the key at "auto", or name an image for that architecture.',
        )
    return wanted


def _architectures(uri: str, ecr: ECRClient) -> list[Architecture]:
    match = _URI.match(uri)
    if match is None or match["region"] != ecr.meta.region_name:
        return []
    key: ImageIdentifierTypeDef = (
        {"imageDigest": match["digest"]} if match["digest"] else {"imageTag": match["tag"] or "latest"}
    )
    try:
        answer = ecr.batch_get_image(
            registryId=match["account"],
            repositoryName=match["name"],
            imageIds=[key],
            acceptedMediaTypes=list(MANIFEST_TYPES),
        )
        if not answer["images"]:
            raise _absent(uri, f"The repository {match['name']} has no image of that tag or digest.")
        manifest = json.loads(answer["images"][0]["imageManifest"])
        found = manifest.get("manifests") or [_config(manifest, match, ecr)]
    except ecr.exceptions.RepositoryNotFoundException as error:
        raise _absent(uri, f"There is no repository {match['name']} in account {match['account']}.") from error
    except ClientError as error:
        if not is_denied(error):
            raise
        return []
    # An index holds attestations besides, whose platform is "unknown".
    names = [OF_IMAGES.get((one.get("platform") or one).get("architecture", "")) for one in found]
    return list(dict.fromkeys(name for name in names if name))


def _config(manifest: dict[str, Any], match: re.Match[str], ecr: ECRClient) -> dict[str, Any]:
    """The image's own description; ECR keeps it as it keeps a layer."""
    answer = ecr.get_download_url_for_layer(
        registryId=match["account"], repositoryName=match["name"], layerDigest=manifest["config"]["digest"]
    )
    try:
        with urllib.request.urlopen(answer["downloadUrl"], timeout=30) as response:
            config: dict[str, Any] = json.load(response)
    except (OSError, ValueError):
        return {}
    return config


def _absent(uri: str, why: str) -> ConfigError:
    return ConfigError(f"There is no image {uri}.", why=why, hint="Push it first, or correct `--image`.")
