"""The target of ``bentoml serve hitree_server.bento:HiTree``; settings come from ``HITREE_…``."""

from hitree_server import logs
from hitree_server.app import App
from hitree_server.http import door
from hitree_server.settings import Settings

settings = Settings.of()
handler = logs.install(settings)
HiTree = door(App(settings))
