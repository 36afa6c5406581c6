"""Settings of a server, from the flags of `imgcls studio`."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a server allows.

    Attributes:
      host: address that it is bound to.
      port: 0: any free one.
      hosts: names of this server, as in the addresses that people open.
      roots: directories below which files on the server may be registered in place.
      allow_configs: the owner may train with python files by path.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    hosts: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    allow_configs: bool = False
