"""Serve a home on this machine."""

import argparse
import os
import threading
import webbrowser

import uvicorn

from imgcls.core import log
from imgcls.studio.app import create_app
from imgcls.studio.home import Home
from imgcls.studio.protocol import HeaderTimeout
from imgcls.studio.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add = parser.add_argument
    add("--home", required=True, metavar="DIR", help="the directory with everything of this studio")
    add("--database", default="", metavar="URL", help="postgresql://... instead of SQLite in DIR")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8765, help="port to listen on (default: 8765; 0: a free one)")
    add("--hosts", default="", metavar="NAMES", help="names of this machine, NAME,NAME")
    add("--roots", default="", metavar="DIRS", help="directories of files to register, DIR:DIR")
    add(
        "--allow_configs", action="store_true", help="the owner may train with config files by path"
    )
    add("--no_browser", action="store_true", help="do not open the page in a browser")


def run(args: argparse.Namespace) -> int:
    """Serves until it is stopped by Ctrl-C or SIGTERM."""
    home = Home(args.home, args.database)
    home.lock()
    settings = Settings(
        host=args.host,
        port=args.port,
        hosts=tuple(filter(None, args.hosts.split(","))),
        roots=tuple(filter(None, args.roots.split(os.pathsep))),
        allow_configs=args.allow_configs,
    )
    config = uvicorn.Config(
        create_app(home, settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        http=HeaderTimeout,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config, not args.no_browser)
    server.run()
    home.release()
    return 0


class _Server(uvicorn.Server):
    """A server that prints its address once it listens, and opens the page."""

    def __init__(self, config: uvicorn.Config, browse: bool):
        super().__init__(config)
        self._browse = browse

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        log.result(f"imgcls studio: {url}")
        if self._browse:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
