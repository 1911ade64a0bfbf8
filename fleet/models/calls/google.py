"""Google's models, with the usage as Google reports it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import fields
from typing import Any

from google.genai.types import GenerateContentResponse
from pydantic_ai import ModelResponse
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.google import GeminiStreamedResponse, GoogleModel

from fleet.models.calls.streams import TOLD
from fleet.models.rules.usage import larger_usage


class ToldGoogleModel(GoogleModel):
    """Pydantic AI's client drops the total, which shows whether the parts are complete."""

    def _process_response(
        self, response: GenerateContentResponse, model_request_parameters: ModelRequestParameters
    ) -> ModelResponse:
        found = super()._process_response(response, model_request_parameters)
        found.provider_details = {**(found.provider_details or {}), TOLD: _usage(response)}
        return found

    async def _process_streamed_response(
        self,
        response: AsyncIterator[GenerateContentResponse],
        model_request_parameters: ModelRequestParameters,
    ) -> StreamedResponse:
        made = await super()._process_streamed_response(response, model_request_parameters)
        assert isinstance(made, GeminiStreamedResponse)
        given = {each.name: getattr(made, each.name) for each in fields(made) if each.init}
        stream = _ToldStream(**given)
        stream.canonical_system = made.canonical_system
        return stream


class _ToldStream(GeminiStreamedResponse):
    told: object = None

    def _add_chunk_usage(self, chunk: GenerateContentResponse) -> None:
        super()._add_chunk_usage(chunk)
        self.told = larger_usage(self.told, _usage(chunk))

    def get(self) -> ModelResponse:
        found = super().get()
        found.provider_details = {**(found.provider_details or {}), TOLD: self.told}
        return found


def _usage(response: GenerateContentResponse) -> dict[str, Any] | None:
    told = response.usage_metadata
    return None if told is None else told.model_dump(exclude_none=True)
