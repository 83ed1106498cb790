from pathlib import Path

from stages.networks.processor import processor


def test_a_processor_has_a_name(monkeypatch) -> None:
    assert processor()

    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert processor()
