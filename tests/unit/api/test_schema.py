"""What schemathesis makes of the published document: whatever is sent, answers are as it says, and none is a defect."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from nova.api.app import make_app
from nova.config.schema import Api
from tests.unit.api.fake import LIMIT_S, FakePort

PHASES = {"coverage": {"enabled": False}}
"""Coverage sends a body beyond every limit, so minutes of megabytes; the limits have tests of their own."""

config = SchemathesisConfig.from_dict({"phases": PHASES})
schema = schemathesis.openapi.from_dict(make_app(FakePort(), Api()).openapi(), config=config)


@schema.parametrize()
@settings(max_examples=6, derandomize=True, database=None)
def test_answers_are_as_published_and_none_is_a_defect(case: schemathesis.Case[Any], url: str) -> None:
    case.call_and_validate(
        base_url=url,
        timeout=LIMIT_S,
        checks=[not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance],
    )
