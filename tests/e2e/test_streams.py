"""A thousand streams at once, among clients that vanish, never finish their request, or read a
hundred bytes a second: nothing is lost, nothing leaks. `benchmarks/serving/bad_clients.py` takes their times."""

import asyncio
import json
import os
import pathlib
import random
import resource
import socket

from conftest import SANITIZED

_, MOST_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
STREAMS = 40 if SANITIZED else 1000
ROUNDS = (0.4, 0.4) if SANITIZED else (0, 0.4, 0.4, 0.4, 0.4)  # shares of bad clients
PROMPTS = ["Once", "The sea", "A king and", "My dear,", "It was late", "Hello", "Two dogs", "Why"]
LENGTHS = [8, 24, 40]


def body(prompt, length):
    return {
        "prompt": prompt,
        "max_tokens": length,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }


def request(prompt, length):
    text = json.dumps(body(prompt, length)).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text


async def healthy(server, pick):
    """The whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request(*pick))
    text = ""
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    while line := await reader.readline():
        if not line.startswith(b"data: "):
            continue
        if line == b"data: [DONE]\n":
            break
        text += "".join(choice["text"] for choice in json.loads(line[6:])["choices"])
    writer.close()
    return text


async def vanishes(server, pick):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request(*pick))
    await reader.read(random.randrange(1, 4000))
    writer.transport.abort()


async def never_finishes(server, pick, over):
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    whole = request(*pick)
    writer.write(whole[: random.randrange(len(whole))])
    await over.wait()
    writer.transport.abort()


async def reads_slowly(server, pick, over):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", server.port))
    await loop.sock_sendall(sock, request(*pick))
    while not over.is_set():
        try:  # a whole answer may be read before the others have theirs
            await asyncio.wait_for(loop.sock_recv(sock, 10), timeout=1)
        except TimeoutError:
            continue
        await asyncio.sleep(0.1)
    sock.close()


def drawn_picks(count):
    return [(random.choice(PROMPTS), random.choice(LENGTHS)) for _ in range(count)]


async def storm(server, picks, alone, bad):
    """Streams all of `picks` at once, among `bad` clients of the bad kinds."""
    over = asyncio.Event()
    begun = [(True, pick) for pick in picks] + [(False, pick) for pick in drawn_picks(bad)]
    random.shuffle(begun)
    others, judged = [], []
    for is_healthy, pick in begun:
        kind = random.random()
        if is_healthy:
            judged.append((pick, asyncio.create_task(healthy(server, pick))))
        elif kind > 0.6:
            others.append(asyncio.create_task(vanishes(server, pick)))
        elif kind > 0.3:
            others.append(asyncio.create_task(never_finishes(server, pick, over)))
        else:
            others.append(asyncio.create_task(reads_slowly(server, pick, over)))
    answers = await asyncio.gather(*(task for _, task in judged))
    over.set()
    await asyncio.gather(*others)
    assert answers == [alone[pick] for pick, _ in judged]


def resident(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024  # MiB


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def at_rest(server, fds):
    return (
        server.metric("vllm:num_requests_running") == 0
        and server.metric("vllm:num_requests_waiting") == 0
        and server.metric("vllm:kv_cache_usage_perc") == 0
        and descriptors(server) <= fds
    )


def answers_alone(server):
    random.seed(int(os.environ.get("PENSTOCK_SEED", "1")))
    return {(prompt, length): asyncio.run(healthy(server, (prompt, length)))
            for prompt in PROMPTS for length in LENGTHS}


def weather(server, count):
    """Storms of `count` clients; MiB resident after each."""
    alone = answers_alone(server)
    server.until(lambda: server.metric("vllm:kv_cache_usage_perc") == 0)
    fds = descriptors(server)
    sizes = []
    for share in ROUNDS:
        bad = round(share * count)
        asyncio.run(storm(server, drawn_picks(count - bad), alone, bad))
        server.until(lambda: at_rest(server, fds), seconds=60)
        sizes.append(resident(server))
    return sizes


# Each server measures which kernels are fastest, and other kernels round otherwise.
OPTIONS = ("--set", "engine.max_queue=4096", "--set", "engine.cpu_kernels=avx2")


def test_a_thousand_streams_among_bad_clients(serve):
    server = serve(*OPTIONS)
    sizes = weather(server, STREAMS)
    if not SANITIZED:  # whose allocators keep what is freed
        # An allocator takes a step now and then; what leaks grows with every storm.
        grown = [after - before for before, after in zip(sizes[1:], sizes[2:])]
        assert min(grown) < 1 and sum(grown) < 32, sizes
