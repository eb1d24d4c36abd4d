"""How a command ends: errors whose message is all that a user needs, without a traceback."""

from typing import ClassVar


class UserError(Exception):
    """A problem that the user can solve; base of all errors of rad_jax and data_prep.

    The message, of one or two lines, names the field or the file, what was found, what was expected and what to do.

    ``status`` is the exit status of ``rad_jax.main``: 2 for a wrong configuration, 1 for any other problem.
    """

    status: ClassVar[int] = 1
    prefix: ClassVar[str] = "error: "


class Stopped(UserError):
    """The run was asked to end; every process has stopped after the same step and saved it."""

    status = 130
    prefix = ""


def explain(error: BaseException) -> tuple[int, str] | None:
    """Exit status and message of an error that needs no traceback; None for any other, which is a fault of the program."""
    if isinstance(error, UserError):
        return error.status, f"{error.prefix}{error}"
    if isinstance(error, OSError):
        return UserError.status, f"error: {error}"
    if isinstance(error, KeyboardInterrupt):
        return Stopped.status, "stopped"
    return None
