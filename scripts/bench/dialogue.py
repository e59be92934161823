"""The dialogue of `worker/examples/bench_step`: arguments are device and threads; a line greets once the libraries are at
work; then come a case as JSON, `steps N` and `warm N`."""

import json
import sys
import time

import torch


def load_libraries(device):
    """What a process holds after a first product and its gradient is its libraries', not a model's."""
    matrix = torch.randn(64, 64, device=device, requires_grad=True)
    matrix.matmul(matrix).sum().backward()


def answer(**values):
    print(json.dumps(values), flush=True)


def serve(stepper, batches):
    for line in sys.stdin:
        what, count = line.split()
        ms = []
        for _ in range(int(count)):
            begin = time.perf_counter()
            loss, score = stepper.step(*batches[what])
            ms.append((time.perf_counter() - begin) * 1e3)
        answer(ms=ms, loss=loss, score=score)


def talk(stepper_of):
    """Answers for what `stepper_of(case, device)` makes: its `trained` parameters, a `batch` of a size, a `step` on one."""
    device, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    load_libraries(device)
    answer()
    case = json.loads(sys.stdin.readline())
    stepper = stepper_of(case, device)
    answer(trained=sum(p.numel() for p in stepper.trained), precision=case.get("precision", "f32"))
    serve(stepper, {"steps": stepper.batch(case["images"]), "warm": stepper.batch(1)})
