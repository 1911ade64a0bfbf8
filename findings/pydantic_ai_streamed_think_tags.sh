#!/usr/bin/env bash
# Pydantic AI: the same answer has another text when it is streamed, where a model thinks inline.
#
# A server of the OpenAI protocol may leave a model's thoughts in the text, between <think> and
# </think>. In a whole answer Pydantic AI splits them off. In a stream it sees a tag only where a
# piece of the stream is the tag and nothing else, so the result depends on how the server cuts.
#
# Exits with 0 while the behaviour is as shown at the end of this file, and with 1 once it changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "pydantic-ai-slim[openai]==2.68.0"

cat > "$folder/show.py" <<'PYTHON'
import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pydantic_ai
from pydantic_ai import ModelRequest
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

SAID = "<think>\nfirst idea\n</think>\nThe answer is 42."
pieces = [SAID]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        frame = {"id": "x", "created": 1, "model": "m"}
        if asked.get("stream"):
            told = [{"delta": {"content": piece}, "finish_reason": None} for piece in pieces]
            told.append({"delta": {}, "finish_reason": "stop"})
            frame["object"] = "chat.completion.chunk"
            events = [{**frame, "choices": [{"index": 0, **each}]} for each in told]
            raw = "".join(f"data: {json.dumps(each)}\n\n" for each in events) + "data: [DONE]\n\n"
            kind = "text/event-stream"
        else:
            message = {"role": "assistant", "content": SAID}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            raw = json.dumps({**frame, "object": "chat.completion", "choices": [choice]})
            kind = "application/json"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw.encode())))
        self.end_headers()
        self.wfile.write(raw.encode())


async def streamed(model, request):
    async with model_request_stream(model, [request]) as stream:
        async for _ in stream:
            pass
        return stream.get().text


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
provider = OpenAIProvider(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
model = OpenAIChatModel("some-model", provider=provider)
request = ModelRequest.user_text_prompt("hello")


async def main():
    global pieces
    print("pydantic-ai-slim", pydantic_ai.__version__)
    print("whole:                   ", repr((await model_request(model, [request])).text))
    for label, cut in {
        "a tag is a piece": ["<think>", "\nfirst idea\n", "</think>", "\nThe answer is 42."],
        "line break with the tag": ["<think>", "\nfirst idea", "\n</think>\n", "The answer is 42."],
        "three letters a piece": [SAID[at : at + 3] for at in range(0, len(SAID), 3)],
        "one piece": [SAID],
    }.items():
        pieces = cut
        print(f"{label + ':':<25}", repr(await streamed(model, request)))


asyncio.run(main())
PYTHON

"$folder/venv/bin/python" "$folder/show.py" | tee "$folder/seen"
diff "$folder/seen" <(sed -n 's/^# seen: //p' "$0")

# seen: pydantic-ai-slim 2.68.0
# seen: whole:                    '\nThe answer is 42.'
# seen: a tag is a piece:         '\nThe answer is 42.'
# seen: line break with the tag:  None
# seen: three letters a piece:    '<think>\nfirst idea\n</think>\nThe answer is 42.'
# seen: one piece:                '<think>\nfirst idea\n</think>\nThe answer is 42.'
