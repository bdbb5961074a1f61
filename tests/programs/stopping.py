"""A program for the tests of signals: `python stopping.py HOW STATE`.

It says on its standard output what happens, so that a test can wait for a line before
it sends a signal.
"""

import sys

import trio

from trio_otp import Agent, Backoff, ChildSpec, Supervisor, run, trap_exit


def say(*words):
    print(*words, flush=True)


def worker(name, cleanup=0.0):
    async def work(*, task_status):
        say("start", name)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            say("stopping", name)
            with trio.move_on_after(60, shield=True):
                await trio.sleep(cleanup)
            say("stop", name)

    return ChildSpec(work, id=name, shutdown=None)


async def falling():
    say("ready")
    raise ValueError("falls at once")


async def starting(*, task_status):
    say("ready")
    await trio.sleep_forever()


async def trapping():
    with trap_exit() as exiting:
        say("ready")
        await exiting.wait()
        say("asked")


async def ready():
    say("ready")
    await trio.sleep_forever()


async def blocked():
    say("ready")
    await trio.to_thread.run_sync(sys.stdin.readline)


STATES = {
    "idle": [worker("a"), worker("b"), ready],
    "delay": [worker("a"), worker("b"), ChildSpec(falling, backoff=Backoff(60))],
    "start": [worker("a"), worker("b"), starting],
    "trap": [worker("a"), worker("b"), trapping],
    "slow": [worker("a"), worker("b", cleanup=1.5), ready],
    "agent": [worker("a"), Agent(dict), worker("b"), ready],
    "thread": [worker("a"), worker("b"), blocked],
}


async def in_main(children):
    async with Supervisor(children):
        await trio.sleep_forever()


if __name__ == "__main__":
    how, state = sys.argv[1:]
    if how == "run":
        run(children=STATES[state])
    else:
        trio.run(in_main, STATES[state])
