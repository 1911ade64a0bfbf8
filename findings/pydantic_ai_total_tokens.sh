#!/usr/bin/env bash
# Pydantic AI: tokens that a server tells by its total alone are in no usage and no price.
#
# Some servers of the OpenAI protocol count reasoning beside the completion, and some tell it in the
# total alone. Pydantic AI reads the parts, drops the total, and so takes the answer to be cheaper than
# its provider bills it. What the details say of reasoning beside the completion is not added either.
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
from pydantic_ai.direct import model_request
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

usages = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "ok"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        frame = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
        raw = json.dumps({**frame, "choices": [choice], "usage": usages.pop()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


async def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    provider = OpenAIProvider(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="k")
    model = OpenAIChatModel("some-model", provider=provider)
    print("pydantic-ai", pydantic_ai.__version__)
    found = []
    for told in (
        {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 1000},
        {
            "prompt_tokens": 10,
            "completion_tokens": 500,
            "total_tokens": 910,
            "completion_tokens_details": {"reasoning_tokens": 400},
        },
    ):
        usages.append(told)
        usage = (await model_request(model, [ModelRequest.user_text_prompt("hello")])).usage
        found.append(usage.input_tokens + usage.output_tokens)
        print(f"total told {told['total_tokens']}, read {found[-1]}: {usage}")
    server.shutdown()
    return found == [50, 510]


raise SystemExit(0 if asyncio.run(main()) else 1)
PYTHON

"$folder/venv/bin/python" "$folder/show.py"

# seen: pydantic-ai 2.68.0
# seen: total told 1000, read 50: RequestUsage(input_tokens=20, output_tokens=30)
# seen: total told 910, read 510: RequestUsage(details={'reasoning_tokens': 400}, input_tokens=10, output_reasoning_tokens=400, output_tokens=500)
