"""/tokenize and /detokenize, as in vLLM's server."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from nova.api.ask import served
from nova.api.errors import invalid
from nova.api.openai.answers import REFUSALS, Tokens, TokensText
from nova.api.openai.fields import Asked, JsonObject, TokenIds
from nova.api.openai.messages import Messages, Tools, for_template, tools_for_template
from nova.coordinator.port import Chat, Port


class TokenizeBody(Asked):
    """A text, or a conversation in the model's chat template."""

    prompt: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    chat_template_kwargs: JsonObject | None = None


class DetokenizeBody(Asked):
    tokens: TokenIds


def router(port: Port) -> APIRouter:
    router = APIRouter(tags=["tokens"], responses=REFUSALS)

    @router.post("/tokenize", response_model=Tokens)
    async def tokenize(body: TokenizeBody) -> Response:
        model = served(port, body.model)
        if (body.prompt is None) == (body.messages is None):
            raise invalid("give either prompt or messages", "prompt")
        if body.messages is not None:
            tools = tools_for_template(body.tools or [])
            chat = Chat(for_template(body.messages), tools, body.chat_template_kwargs or {})
            tokens = (await port.encode_chat(chat)).tokens
        else:
            tokens = await port.encode(body.prompt or "")
        return JSONResponse({"tokens": tokens, "count": len(tokens), "max_model_len": model.context})

    @router.post("/detokenize", response_model=TokensText)
    async def detokenize(body: DetokenizeBody) -> Response:
        served(port, body.model)
        return JSONResponse({"prompt": await port.decode(body.tokens)})

    return router
