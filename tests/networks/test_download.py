import hashlib
import json
import socket
import time

import httpx
import pytest

from stages.core.errors import WeightsError
from stages.core.settings.weights import WeightsParams
from stages.core.surroundings import GIVEN
from stages.networks import download
from stages.networks.download import Published, UnreachableError, cache_folder, fetch
from tests.support.web import Web, serve

CONTENT = b"published weights " * 1000


@pytest.fixture
def origin():
    with serve() as served:
        served.files["net.h5"] = CONTENT
        yield served


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(GIVEN, "KERAS_HOME", str(tmp_path / "keras"))


def params(mirror: str | None = None, if_unreachable: str = "stop") -> WeightsParams:
    return WeightsParams(
        source="imagenet", folder=".", mirror=mirror, if_unreachable=if_unreachable, connect_timeout=2.0
    )


def published(origin: Web, content: bytes = CONTENT, kind: str = "md5") -> Published:
    return Published("net.h5", f"{origin.url}/net.h5", hashlib.new(kind, content).hexdigest())


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_served_file_is_verified_and_kept_in_keras_s_cache(origin: Web, kind: str) -> None:
    path = fetch(published(origin, kind=kind), params())
    assert path == cache_folder() / "net.h5"
    assert path.read_bytes() == CONTENT
    fetch(published(origin, kind=kind), params())
    assert origin.requests == ["GET /net.h5"]


def test_a_mirror_by_url_is_asked_instead_of_keras_s_url(origin: Web) -> None:
    file = Published("net.h5", "http://keras.invalid/net.h5", hashlib.md5(CONTENT).hexdigest())
    assert fetch(file, params(mirror=origin.url + "/")).read_bytes() == CONTENT


def test_a_mirror_may_be_a_folder(tmp_path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "net.h5").write_bytes(CONTENT)
    file = Published("net.h5", "http://keras.invalid/net.h5", hashlib.md5(CONTENT).hexdigest())
    assert fetch(file, params(mirror="mirror")).read_bytes() == CONTENT


def test_a_folder_without_the_file_cannot_serve_it(tmp_path) -> None:
    (tmp_path / "mirror").mkdir()
    with pytest.raises(UnreachableError, match=r"mirror 'mirror' holds no net.h5; expected .* put it there"):
        fetch(Published("net.h5", "http://keras.invalid/", "0" * 32), params(mirror="mirror"))


def test_a_wrong_hash_is_refused_and_nothing_is_kept(origin: Web) -> None:
    origin.files["net.h5"] = b"not the weights"
    with pytest.raises(WeightsError, match=r"has md5 .* \(15 bytes\); expected .*as Keras publishes it") as caught:
        fetch(published(origin), params())
    assert not isinstance(caught.value, UnreachableError)
    assert list(cache_folder().iterdir()) == []


def test_a_wrong_file_in_a_mirror_folder_is_refused_and_left_alone(tmp_path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "net.h5").write_bytes(b"old")
    with pytest.raises(WeightsError, match=r"mirror/net.h5 has md5"):
        fetch(Published("net.h5", "", "0" * 32), params(mirror="mirror"))
    assert (tmp_path / "mirror" / "net.h5").read_bytes() == b"old"


def test_a_truncated_download_says_how_much_came_and_keeps_nothing(origin: Web) -> None:
    origin.cut_after["net.h5"] = 5000
    with pytest.raises(WeightsError, match=r"net.h5 was interrupted after \d+ bytes; expected the whole file"):
        fetch(published(origin), params())
    assert list(cache_folder().iterdir()) == []


def test_a_connection_that_ends_before_a_byte_is_no_answer(origin: Web) -> None:
    origin.cut_after["net.h5"] = 0
    with pytest.raises(UnreachableError, match="cannot be reached"):
        fetch(published(origin), params())


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "no-scheme"])
def test_a_proxy_that_cannot_be_used_is_no_answer(origin: Web, monkeypatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(UnreachableError, match="cannot be reached"):
        fetch(published(origin), params())


def test_a_404_says_so(origin: Web) -> None:
    with pytest.raises(
        UnreachableError, match=r"none.h5 answered 404; expected 200 and the file; check weights.mirror"
    ):
        fetch(Published("none.h5", f"{origin.url}/none.h5", "0" * 32), params())


@pytest.mark.parametrize("target", ["http://169.254.169.254/net.h5", "//10.0.0.1/net.h5"])
def test_a_redirect_into_another_network_inside_is_refused(origin: Web, target: str) -> None:
    origin.redirects["moved.h5"] = target
    with pytest.raises(
        UnreachableError, match=r"moved.h5 is redirected to '[\d.]+', a .* address; expected a redirect"
    ):
        fetch(Published("moved.h5", f"{origin.url}/moved.h5", "0" * 32), params())


def test_a_redirect_within_one_network_is_followed(origin: Web) -> None:
    origin.redirects["moved.h5"] = "/net.h5"
    file = Published("moved.h5", f"{origin.url}/moved.h5", hashlib.md5(CONTENT).hexdigest())
    assert fetch(file, params()).read_bytes() == CONTENT


def test_a_download_that_trickles_ends_when_its_time_is_over(origin: Web, monkeypatch) -> None:
    monkeypatch.setattr(download, "_MOST_SECONDS", 0.3)
    origin.slow.add("net.h5")
    with pytest.raises(
        WeightsError, match=r"net.h5 is not fetched after 0.005 minutes; expected the whole file by then"
    ):
        fetch(published(origin), params())


def test_a_damaged_file_in_the_cache_is_fetched_again(origin: Web, caplog) -> None:
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "net.h5").write_bytes(b"half a file")
    assert fetch(published(origin), params()).read_bytes() == CONTENT
    assert "net.h5 in Keras's cache is damaged" in caplog.text


def test_a_host_that_does_not_answer_is_asked_once_for_all_backbones(monkeypatch) -> None:
    host = f"127.0.0.1:{closed_port()}"
    asked = []
    stream = httpx.Client.stream
    monkeypatch.setattr(httpx.Client, "stream", lambda *a, **k: asked.append(a[2]) or stream(*a, **k))
    for name in ("one.h5", "two.h5", "three.h5"):
        with pytest.raises(UnreachableError, match=f"'{host}' cannot be reached; expected a network"):
            fetch(Published(name, f"http://{host}/{name}", "0" * 32), params(if_unreachable="random"))
    assert asked == [f"http://{host}/one.h5"]


def test_a_silent_host_is_given_up_after_the_connect_timeout() -> None:
    # A socket that listens with a full backlog and never accepts leaves further connections without an answer.
    with socket.socket() as silent, socket.socket() as first, socket.socket() as second:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        port = silent.getsockname()[1]
        short = params().model_copy(update={"connect_timeout": 0.3})
        with pytest.raises(UnreachableError, match="cannot be reached"):
            fetch(Published("net.h5", f"http://127.0.0.1:{port}/net.h5", "0" * 32), short)


def test_an_unreachable_host_is_tried_again_after_a_while(origin: Web) -> None:
    host = origin.url.split("/")[2]
    download._UNREACHABLE.parent.mkdir()
    download._UNREACHABLE.write_text(json.dumps({host: time.time() - 10}))
    with pytest.raises(UnreachableError):
        fetch(published(origin), params(if_unreachable="random"))
    download._UNREACHABLE.write_text(json.dumps({host: time.time() - 3600}))
    assert fetch(published(origin), params(if_unreachable="random")).read_bytes() == CONTENT


def test_with_stop_a_host_is_always_asked(origin: Web) -> None:
    download._UNREACHABLE.parent.mkdir()
    download._UNREACHABLE.write_text(json.dumps({origin.url.split("/")[2]: time.time()}))
    assert fetch(published(origin), params()).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_made_is_replaced_by_one_in_the_project(origin: Web, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("a file where the folder would be")
    monkeypatch.setitem(GIVEN, "KERAS_HOME", str(tmp_path / "file"))
    assert fetch(published(origin), params()).is_relative_to(".cache")


def test_a_file_without_a_published_hash_is_used_with_a_warning(origin: Web, caplog) -> None:
    origin.files["net.h5"] = b"\x89HDF\r\n\x1a\n" + CONTENT
    file = Published("net.h5", f"{origin.url}/net.h5", None)
    assert fetch(file, params()).read_bytes() == origin.files["net.h5"]
    assert "net.h5: Keras publishes no hash of it, so it cannot be verified" in caplog.text
    origin.files.clear()
    assert fetch(file, params()).exists()


def test_a_file_without_a_published_hash_that_is_no_hdf5_is_refused(origin: Web) -> None:
    origin.files["net.h5"] = b"<html>Please log in</html>"
    with pytest.raises(WeightsError, match=r"net.h5 is not an HDF5 file \(26 bytes\); expected an HDF5 file"):
        fetch(Published("net.h5", f"{origin.url}/net.h5", None), params())
    assert list(cache_folder().iterdir()) == []
