"""The clients that people send a request's fields with; each gives its answer in one form."""

import http.client
import inspect
import json

import anthropic
import openai

try:
    import grpc
except ImportError:
    grpc = None

MESSAGES = ("/v1/messages", "/v1/messages/count_tokens")


class Seen:
    """What an answer says, whoever asked: a refusal's status and field, or texts and counts."""

    def __init__(self, status, raw, events=None, headers=None):
        self.status, self.raw, self.events = status, raw, events or []
        self.headers = headers or {}
        error = raw.get("error") if isinstance(raw, dict) else None
        self.param = (error.get("param") or "") if error and status >= 400 else ""
        self.message = error.get("message", "") if error and status >= 400 else ""

    @property
    def texts(self):
        if self.events:
            return [self.streamed_text()]
        raw = self.raw
        if "choices" in raw:
            return [c["text"] if "text" in c else c["message"]["content"] or "" for c in raw["choices"]]
        if "output" in raw:
            parts = [p for item in raw["output"] for p in item.get("content") or []]
            return ["".join(p.get("text", "") for p in parts)]
        if "content" in raw:
            return ["".join(block.get("text") or "" for block in raw["content"])]
        for key in ("data", "results", "tokens", "prompt", "input_tokens", "embeddings"):
            if key in raw:
                return [raw[key]]
        return [raw]

    def streamed_text(self):
        text = ""
        for event in self.events:
            for choice in event.get("choices") or []:
                text += choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            if event.get("type") == "response.output_text.delta":
                text += event["delta"]
            elif event.get("type") == "content_block_delta":
                text += event["delta"].get("text") or ""
        return text

    @property
    def text(self):
        return self.texts[0]

    @property
    def pieces(self):
        """Events with text."""
        return sum(bool(Seen(200, {}, [event]).streamed_text()) for event in self.events)

    @property
    def calls(self):
        """Names of functions that the answer calls."""
        raw = self.raw
        if "choices" in raw:
            return [c["function"]["name"] for choice in raw["choices"]
                    for c in choice["message"].get("tool_calls") or []]
        if "output" in raw:
            return [item["name"] for item in raw["output"] if item["type"] == "function_call"]
        return [block["name"] for block in raw["content"] if block["type"] == "tool_use"]

    def _usage(self, *names):
        usage = self.raw.get("usage") or self.raw
        for name in names:
            if usage.get(name) is not None:
                return usage[name]
        return None

    @property
    def prompt(self):
        """Tokens of the prompt; Anthropic counts those from the cache apart."""
        usage = self.raw.get("usage") or self.raw
        return (self._usage("prompt_tokens", "input_tokens") or 0) + (
            usage.get("cache_read_input_tokens") or 0
        )

    @property
    def completion(self):
        return self._usage("completion_tokens", "output_tokens")

    @property
    def cached(self):
        usage = self.raw["usage"]
        for name in ("prompt_tokens_details", "input_tokens_details"):
            if usage.get(name):
                return usage[name]["cached_tokens"]
        return usage.get("cache_read_input_tokens") or usage.get("cached_tokens") or 0

    def gist(self):
        """What must be equal whichever client asked."""
        if self.status != 200:
            return (self.status,)
        if self.events:
            return (200, self.streamed_text())
        counted = (self.prompt, self.completion) if self.raw.get("usage") else ()
        return (200, json.dumps(self.texts, sort_keys=True), *counted)


class Http:
    """Nothing between the test and the wire."""

    name = "HTTP"

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)

    def has(self, route):
        return True

    def manner(self, route, field):
        return ""

    def post(self, route, body, headers=None):
        """`body`: bytes as they are, or what is written as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        for again in (True, False):
            try:
                self.connection.request(
                    "POST", route, data, {"Content-Type": "application/json", **(headers or {})}
                )
                answer = self.connection.getresponse()
                break
            except (ConnectionError, http.client.HTTPException):
                self.connection.close()  # kept alive too long
                if not again:
                    raise
        text, kind = answer.read(), answer.headers.get_content_type()
        headers = {key.lower(): value for key, value in answer.headers.items()}
        if kind == "text/event-stream":
            lines = [line[6:] for line in text.decode().split("\n") if line.startswith("data: ")]
            events = [json.loads(line) for line in lines if line.strip() != "[DONE]"]
            return Seen(answer.status, {}, events, headers)
        return Seen(answer.status, json.loads(text) if kind == "application/json" else {"text": text.decode()},
                    None, headers)


class Sdk:
    """A client library: what it has a name for it is given by name, the rest as its extra body."""

    def __init__(self, calls, error):
        self.calls, self.error = calls, error

    def has(self, route):
        return route in self.calls

    def named(self, route):
        return set(inspect.signature(self.calls[route]).parameters) - {
            "self", "extra_body", "extra_headers", "extra_query", "timeout",
            "output_format",  # takes a class and makes output_config of it
        }

    def manner(self, route, field):
        return "" if field in self.named(route) else " (extra_body)"

    def post(self, route, body):
        named, call = self.named(route), self.calls[route]
        body = {"model": "demo" if "embed" not in route else "bert", **body}
        known = {k: v for k, v in body.items() if k in named}
        rest = {k: v for k, v in body.items() if k not in named}
        try:
            answer = call(**known, extra_body=rest)
        except self.error as error:
            whole = error.body if isinstance(error.body, dict) else {}
            return Seen(error.status_code, whole if "error" in whole else {"error": whole})
        if known.get("stream"):
            return Seen(200, {}, [event.model_dump() for event in answer])
        return Seen(200, answer.model_dump())


class OpenAi(Sdk):
    name = "openai"

    def __init__(self, server):
        c = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)
        super().__init__(
            {
                "/v1/completions": c.completions.create,
                "/v1/chat/completions": c.chat.completions.create,
                "/v1/responses": c.responses.create,
                "/v1/embeddings": c.embeddings.create,
            },
            openai.APIStatusError,
        )


class Anthropic(Sdk):
    name = "anthropic"

    def __init__(self, server):
        c = anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120)
        super().__init__(
            {
                "/v1/messages": c.messages.create,
                "/v1/messages/count_tokens": c.messages.count_tokens,
            },
            anthropic.APIStatusError,
        )


class Grpc:
    """Generated stubs, given what HTTP's body of the same fields says."""

    name = "gRPC"
    STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "DEADLINE_EXCEEDED": 408, "RESOURCE_EXHAUSTED": 429}
    CALLS = {
        "/v1/completions": ("Generate", "GenerateRequest"),
        "/v1/chat/completions": ("Chat", "ChatRequest"),
        "/v1/embeddings": ("Embed", "EmbedRequest"),
        "/tokenize": ("Tokenize", "TokenizeRequest"),
        "/detokenize": ("Detokenize", "DetokenizeRequest"),
    }

    def __init__(self, server, stubs):
        self.pb = stubs[0]
        self.stub = stubs[1].InferenceStub(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"))

    def has(self, route):
        return route in self.CALLS

    def fields(self, route):
        descriptor = getattr(self.pb, self.CALLS[route][1]).DESCRIPTOR
        return {field.name: field for field in descriptor.fields}

    def manner(self, route, field):
        return ""

    def request(self, route, body):
        request = getattr(self.pb, self.CALLS[route][1])()
        for name, value in body.items():
            if name in ("messages", "chat"):
                messages = request.chat.messages if name == "chat" else request.messages
                for message in value:
                    messages.add(**message)
            elif name == "input":
                for text in value if isinstance(value, list) else [value]:
                    request.input.add(text=text)
            elif name == "prompt_ids":
                request.prompt_ids.ids.extend(value)
            elif name == "logit_bias":
                for key, bias in value.items():
                    request.logit_bias[int(key)] = bias
            elif name in ("tools", "documents"):
                getattr(request, name).extend(
                    [v if isinstance(v, str) else json.dumps(v) for v in value]
                )
            elif name in ("chat_template_kwargs", "response_format", "structured_outputs", "tool_choice"):
                setattr(request, name, value if isinstance(value, str) else json.dumps(value))
            elif isinstance(value, list):
                getattr(request, name).extend(value)
            else:
                setattr(request, name, value)
        return request

    def post(self, route, body):
        call = getattr(self.stub, self.CALLS[route][0])
        try:
            answer = call(self.request(route, body), timeout=120)
        except grpc.RpcError as error:
            status = self.STATUS.get(error.code().name, 500)
            return Seen(status, {"error": {"message": error.details(), "param": error.details()}})
        return Seen(200, self.as_json(route, answer))

    def as_json(self, route, answer):
        if route == "/tokenize":
            return {"tokens": list(answer.ids), "token_strs": list(answer.token_strs) or None}
        if route == "/detokenize":
            return {"prompt": answer.text}
        usage = {name: getattr(answer.usage, name + "_tokens")
                 for name in ("prompt", "completion", "cached", "reasoning")}
        usage = {name + "_tokens": count for name, count in usage.items()}
        raw = {"id": answer.id, "model": answer.model, "usage": usage}
        if route == "/v1/embeddings":
            raw["data"] = [{"index": e.index, "embedding": list(e.values)} for e in answer.embeddings]
            return raw
        raw["prompt_token_ids"] = list(answer.prompt_token_ids)
        raw["prompt_logprobs"] = list(answer.prompt_logprobs)
        raw["choices"] = []
        for choice in answer.choices:
            row = {"token_ids": list(choice.token_ids), "logprobs": list(choice.logprobs)}
            if route == "/v1/completions":
                row["text"] = choice.text
            else:
                row["message"] = {
                    "content": choice.message.content,
                    "tool_calls": [{"function": {"name": c.name}} for c in choice.message.tool_calls],
                }
            raw["choices"].append(row)
        return raw
