"""Where a service is, as botocore would say, without what botocore loads to say it."""

from __future__ import annotations

import os
import re
from typing import Any

from botocore.config import Config
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.exceptions import NoRegionError

# Of the partitions whose hosts end in amazonaws.com.
_PLAIN_REGION = re.compile(r"(?:af|ap|ca|eu|il|me|mx|sa|us)-(?:gov-)?[a-z]+-\d\Z")
_SPECIAL = ("use_fips_endpoint", "use_dualstack_endpoint", "ignore_configured_endpoint_urls")


def endpoint_of(session: Any, service: str, config: Config) -> tuple[str, str]:
    """The URL and the region of a service for a botocore session.

    A client knows both, but takes its service's whole model to make: 7 MB for each of two services in a worker of 50.

    Raises:
        NoRegionError: Nothing says which region.
    """
    region = session.get_config_variable("region")
    if not region:
        raise NoRegionError
    if not any(session.get_config_variable(name) for name in _SPECIAL):
        configured = ConfiguredEndpointProvider(
            full_config=session.full_config,
            scoped_config=session.get_scoped_config(),
            client_name=service,
            environ=os.environ,
        ).provide()
        if configured:
            return configured, region
        if _PLAIN_REGION.match(region):
            return f"https://{service}.{region}.amazonaws.com", region
    client = session.create_client(service, config=config)
    try:
        return client.meta.endpoint_url, client.meta.region_name
    finally:
        client.close()
