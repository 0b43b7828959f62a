"""The server of the page: on 127.0.0.1 only, in a thread, with a private folder for uploads."""

import os
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from mmalign.errors import UserError
from mmalign.exploring.guard import Guard
from mmalign.exploring.page import build_page, page_style
from mmalign.exploring.session import Session
from mmalign.registry import missing_extra

HOST = "127.0.0.1"
_MORE = 10**6
"""Bytes of a request beyond the dropped files."""


class Explorer:
    """A running page; a context manager that stops it.

    Args:
        session: What the page calls.
        port: Port on 127.0.0.1; 0 = a free one.

    Raises:
        UserError: Gradio is not installed, or the port is in use.
    """

    def __init__(self, session: Session, port: int = 0) -> None:
        if not 0 <= port < 2**16:
            raise UserError(f"port: expected 0 to 65535, got {port}")
        gradio, uvicorn, fastapi = _packages()
        self._socket = _bound(port)
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self._folder = Path(tempfile.mkdtemp(prefix="mmalign-explore-"))
        os.environ["GRADIO_TEMP_DIR"] = str(self._folder / "uploads")
        page = build_page(gradio, session, self._folder)
        app = gradio.mount_gradio_app(
            fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None), page, path="", footer_links=[],
            run_history=False, show_error=False, max_file_size=session.limits.upload_bytes, ssr_mode=False,
            enable_monitoring=False, pwa=False, mcp_server=False, **page_style(gradio),
        )  # fmt: skip
        most = session.limits.upload_bytes * session.limits.files + _MORE
        config = uvicorn.Config(
            Guard(app, most),
            log_level="warning",
            access_log=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.02)

    def wait(self) -> None:
        """Serve until the server ends."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def close(self) -> None:
        """Stop the server and delete uploads and exports."""
        self._server.should_exit = True
        self._thread.join(3)
        self._server.force_exit = True  # an open page keeps a connection
        self._thread.join(10)
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "Explorer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _packages() -> tuple[Any, Any, Any]:
    # Read when the packages are imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import fastapi
        import gradio
        import uvicorn
    except ImportError as error:
        raise missing_extra("gradio", "explore") from error
    return gradio, uvicorn, fastapi


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError as error:
        bound.close()
        raise UserError(f"port {port} of {HOST} is in use; --port 0 takes a free one") from error
    return bound
