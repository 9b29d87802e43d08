"""The account that these tests share."""

from support.aws_account import calls, ready, run, server

__all__ = ["calls", "ready", "run", "server"]
