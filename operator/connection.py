"""What sub-commands that speak to an API server share: flags, exit codes, errors told in one sentence.

Imports nothing heavy, so that `--help` and wrong arguments are quick; the client comes with the first request.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crontabber_operator.client import Client
    from crontabber_operator.cluster import ApiError

EXIT_FAILED = 1
"""What was asked could not be done, or was refused."""
EXIT_USAGE = 2
"""The arguments or the input can't be used."""
_UNKNOWN_KIND = ("404 page not found", "could not find the requested resource")
EXIT_INTERRUPTED = 130  # as a shell reports a program that SIGINT ended


class CannotError(Exception):
    """What was asked can't be done; the message is the sentence for the user."""

    def __init__(self, sentence: str, code: int = EXIT_FAILED) -> None:
        """Take the sentence and the exit code."""
        super().__init__(sentence)
        self.code = code


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add `-n`, `--context` and `--kubeconfig`, as kubectl has them."""
    parser.add_argument("-n", "--namespace", metavar="NAME", help="the namespace (the context's)")
    parser.add_argument("--context", metavar="NAME", help="the context of the kubeconfig (its current one)")
    parser.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="the kubeconfig ($KUBECONFIG, ~/.kube/config, or the pod's account)",
    )


def run_connected(
    program: str, arguments: argparse.Namespace, work: Callable[[Client], Awaitable[int]]
) -> int:
    """Connect as the flags say, do the work, and return its exit code; errors are told in a sentence."""
    from crontabber_operator.client import connected  # noqa: PLC0415 - takes longer than all the rest

    async def session() -> int:
        async with connected(arguments.kubeconfig, arguments.context, arguments.namespace) as client:
            return await work(client)

    return run_told(program, lambda: asyncio.run(session()))


def run_told(program: str, work: Callable[[], int]) -> int:
    """Do the work and return its exit code; errors are told in a sentence on standard error."""
    try:
        return work()
    except CannotError as error:
        tell(program, str(error))
        return error.code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        tell(program, sentence)
        return EXIT_FAILED


def tell(program: str, sentence: str) -> None:
    """Write a sentence on standard error, after the program's name."""
    sys.stdout.flush()
    sys.stderr.write(f"{program}: {sentence}\n")
    sys.stderr.flush()


def _sentence(error: Exception) -> str | None:
    """Say what an API server's refusal means to the user; None: it is a fault of this program."""
    from crontabber_operator.cluster import ApiError  # noqa: PLC0415 - is loaded where it can happen

    if not isinstance(error, ApiError):
        return None
    if error.status == 0:
        return f"the API server can't be reached: {full_stop(error.message)}"
    if error.status == 401:
        return "the API server doesn't accept the kubeconfig's login; log in anew."
    if is_unknown_kind(error):
        return "the cluster has no CrontabberJobs; install them with 'kubectl apply -f crds/'."
    return full_stop(error.message)


def is_unknown_kind(error: ApiError) -> bool:
    """Tell whether a 404 means that the CustomResourceDefinition is missing, and not the object."""
    return error.status == 404 and any(text in error.message for text in _UNKNOWN_KIND)


def full_stop(sentence: str) -> str:
    """End a sentence of somebody else with a full stop, in one line."""
    text = " ".join(sentence.split())
    return text if text.endswith(".") else f"{text}."
