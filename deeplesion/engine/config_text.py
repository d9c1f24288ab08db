"""A config that is written out once."""

from __future__ import annotations

from mmengine.config import Config


class WrittenConfig(Config):
    """A config whose text is formatted once, for as long as it stays the same.

    mmengine has yapf format it for every log, tracker and checkpoint, which takes a quarter of a
    second each time.
    """

    # What the text is of, and the text.
    _written: tuple[str, str] = ("", "")

    @classmethod
    def of(cls, cfg: Config) -> WrittenConfig:
        """The same config.

        Args:
            cfg: Any config; not to be used any more.
        """
        same = cls.__new__(cls)
        same.__dict__.update(cfg.__dict__)
        return same

    @property
    def pretty_text(self) -> str:
        """The config as a file of Python."""
        content = repr(self._cfg_dict)
        if self._written[0] != content:
            # Not by setting an attribute: that would be one of the config's own keys.
            self.__dict__["_written"] = (content, super().pretty_text)
        return self._written[1]
