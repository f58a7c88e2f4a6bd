"""How schemathesis, in its own environment, writes the body of a batch: as it is."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
