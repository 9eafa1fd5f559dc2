"""A worker that breaks the protocol, in the way its first argument says: a command target for tests."""

import importlib.util
import os
import struct
import sys
import time

spec = importlib.util.spec_from_file_location("served", sys.argv[2])
served = importlib.util.module_from_spec(spec)
spec.loader.exec_module(served)

how = sys.argv[1]
requests, answers = sys.stdin.buffer, sys.stdout.buffer
if how == "never-starts":
    time.sleep(10_000)
if how == "dies-at-once":
    sys.exit("no such device")
if how == "closes":
    os.close(1)
    time.sleep(10_000)

VERSIONS = {"other-version": 99, "long-version": "9" * 60_000}


def send(message, arrays=None):
    answers.write(served.encode(message, arrays or {}))
    answers.flush()


while (body := served.take(requests)) is not None:
    message, arrays = served.decode(body)
    seq = message["seq"]
    if message["type"] == "start":
        send({"type": "started", "seq": seq, "version": VERSIONS.get(how, 1), "supports": None})
    elif message["type"] == "stop":
        break
    elif how == "late":
        send({"type": "answer", "seq": seq - 1})
    elif how == "no-message":
        text = b'{"loss":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}'
        answers.write(struct.pack("<QQ", 16 + len(text), len(text)) + text + bytes(8))
        answers.flush()
    elif how == "strange":
        send({"type": "greetings", "seq": seq})
    elif how == "talkative":
        send({"type": "x" * 60_000, "seq": seq})
    elif how == "late-and-talkative":
        send({"type": "answer", "seq": "x" * 60_000})
    elif how == "reasonless":
        send({"type": "unsupported", "seq": seq})
    elif how == "integers":
        send({"type": "answer", "seq": seq}, {"loss": __import__("numpy").arange(1)})
