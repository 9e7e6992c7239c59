"""A server that speaks S3, on loopback."""

import pytest


@pytest.fixture(scope="module")
def s3_server():
    """Address of moto's S3, and a client with credentials to fill it."""
    moto_server = pytest.importorskip("moto.server", reason="needs the extra dev")
    boto3 = pytest.importorskip("boto3", reason="needs the extra cloud")
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    yield url, client
    server.stop()
