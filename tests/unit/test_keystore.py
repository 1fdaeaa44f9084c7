"""The key file, systemd's credentials, and that a key shows nowhere."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import os
import pickle
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from market.errors import DataInvalid, EdgeclawError, Misconfigured, NotReady
from tools.keystore import SecretKey, create, from_credentials, open_key, passphrase_from
from tools.polymarket.signing import Signer, order_id, signer_of
from tools.polymarket.typed import EOA, VenueOrder

pytest.importorskip("eth_account", reason="the extra `live` is not installed")

CANARY = bytes.fromhex("c0ffee5eedc0ffee5eedc0ffee5eedc0ffee5eedc0ffee5eedc0ffee5eed1234")
ADDRESS = Signer(CANARY).address
PHRASE = "correct horse, battery"
QUICK = 1 << 10


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    create(path, SecretKey(CANARY), PHRASE, work=QUICK)
    return path


def shows(text: str | bytes) -> bool:
    """True where a text holds the key, as hexadecimal digits, as Python writes bytes, or as a number."""
    if isinstance(text, bytes):
        return CANARY in text or shows(text.decode("latin-1"))
    number = int.from_bytes(CANARY, "big")
    forms = (CANARY.hex(), repr(CANARY)[2:-1], str(number), str(list(CANARY))[1:-1])
    return any(form.lower() in text.lower() for form in forms)


def told(error: BaseException) -> str:
    """All that a log would show of an error, with everything it came from."""
    seen, texts = error, []
    while True:
        seen.__suppress_context__ = False
        texts.append(repr(seen) + str(seen) + str(getattr(seen, "next_step", "")))
        if seen.__context__ is None:
            return "".join(traceback.format_exception(error)) + "".join(texts)
        seen = seen.__context__


def refused(kind: type[EdgeclawError], call: Callable[[], Any]) -> EdgeclawError:
    with pytest.raises(kind) as raised:
        call()
    assert not shows(told(raised.value))
    assert PHRASE not in raised.value.sentence()
    return raised.value


def test_a_key_comes_back_from_its_file_and_signs_as_before(file: Path) -> None:
    order = VenueOrder(1, ADDRESS, ADDRESS, 1 << 70, 6_120_000, 12_000_000, 0, EOA, 1_795_403_573_757)
    with open_key(file, PHRASE) as key:
        signed = key.signer().order(order)
        assert key.address == ADDRESS and key.reveal() == CANARY
    assert signer_of(order, signed.signature) == ADDRESS and signed.id == order_id(order)


def test_the_file_is_a_keystore_that_other_programs_open(file: Path) -> None:
    from eth_account import Account

    said = json.loads(file.read_text())
    assert said["version"] == 3 and said["crypto"]["kdf"] == "scrypt" and said["crypto"]["kdfparams"]["n"] == QUICK
    assert Account.decrypt(said, PHRASE) == CANARY
    assert not shows(file.read_bytes())


def test_the_default_work_is_the_one_that_other_programs_take(tmp_path: Path) -> None:
    create(tmp_path / "key.json", SecretKey(CANARY), PHRASE)
    assert json.loads((tmp_path / "key.json").read_text())["crypto"]["kdfparams"]["n"] == 262_144
    assert open_key(tmp_path / "key.json", PHRASE).address == ADDRESS


def test_a_file_made_by_another_program_with_another_kind_of_work_is_opened(tmp_path: Path) -> None:
    from eth_account import Account

    path = tmp_path / "key.json"
    path.write_text(json.dumps(Account.encrypt(CANARY, PHRASE, kdf="pbkdf2", iterations=1000)))
    path.chmod(0o600)
    assert open_key(path, PHRASE).address == ADDRESS


def test_a_new_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create(tmp_path / "key.json", SecretKey(CANARY), PHRASE, work=QUICK)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o644])
def test_a_file_that_others_can_reach_is_refused_with_the_command_that_mends_it(file: Path, mode: int) -> None:
    file.chmod(mode)
    error = refused(Misconfigured, lambda: open_key(file, PHRASE))
    assert f"{mode:04o}" in str(error) and error.next_step == f"Run: chmod 600 {file}"


def test_a_wrong_passphrase_is_one_plain_sentence(file: Path) -> None:
    error = refused(Misconfigured, lambda: open_key(file, "another"))
    assert str(error) == f"The passphrase does not open {file}."


def test_a_file_is_never_overwritten_and_never_without_a_passphrase(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    refused(Misconfigured, lambda: create(file, SecretKey(b"\x22" * 32), PHRASE, work=QUICK))
    assert file.read_bytes() == before
    refused(Misconfigured, lambda: create(tmp_path / "open.json", SecretKey(CANARY), "", work=QUICK))
    refused(DataInvalid, lambda: create(tmp_path / "none" / "k.json", SecretKey(CANARY), PHRASE, work=QUICK))
    assert sorted(tmp_path.iterdir()) == [file]


def test_a_missing_file_and_a_damaged_one_are_told_apart(file: Path, tmp_path: Path) -> None:
    refused(NotReady, lambda: open_key(tmp_path / "none.json", PHRASE))
    whole = json.loads(file.read_text())
    damaged: list[Any] = [
        {},
        [],
        "text",
        whole | {"version": 4},
        whole | {"crypto": {}},
        whole | {"crypto": whole["crypto"] | {"kdf": "argon"}},
        whole | {"crypto": whole["crypto"] | {"mac": "no digits"}},
        whole | {"crypto": whole["crypto"] | {"cipherparams": {}}},
        whole | {"crypto": whole["crypto"] | {"kdfparams": whole["crypto"]["kdfparams"] | {"n": 1 << 30}}},
        whole | {"crypto": whole["crypto"] | {"kdfparams": whole["crypto"]["kdfparams"] | {"n": 1000}}},
        whole | {"crypto": whole["crypto"] | {"kdfparams": whole["crypto"]["kdfparams"] | {"salt": 7}}},
    ]
    for one in damaged:
        file.write_text(json.dumps(one))
        with pytest.raises((DataInvalid, Misconfigured)):
            open_key(file, PHRASE)
    for text in ("", "{", "\x00", "[" * 50_000, "x" * 100_000):
        file.write_text(text)
        refused(DataInvalid, lambda: open_key(file, PHRASE))


def test_a_file_with_any_byte_changed_gives_the_key_or_a_plain_refusal(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    create(path, SecretKey(CANARY), PHRASE, work=2)
    whole, opened = path.read_bytes(), 0
    for place in range(len(whole)):
        for byte in (0x30, 0x31, 0x66, whole[place] ^ 1, whole[place] ^ 0x80):
            path.write_bytes(whole[:place] + bytes((byte,)) + whole[place + 1 :])
            with contextlib.suppress(DataInvalid, Misconfigured):
                assert open_key(path, PHRASE).reveal() == CANARY
                opened += 1
    assert 0 < opened < 5 * len(whole), "some bytes mean nothing, others do"


# -- systemd


def test_a_service_reads_its_key_and_its_passphrase_from_systemd(tmp_path: Path) -> None:
    for name, text in (("key", f"0x{CANARY.hex()}\n"), ("phrase", f"{PHRASE}\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o440)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert from_credentials("key", environment).address == ADDRESS
    assert passphrase_from("phrase", environment) == PHRASE
    error = refused(Misconfigured, lambda: from_credentials("phrase", environment))
    assert "32 bytes" in str(error)


def test_credentials_that_are_not_there_or_not_private_are_refused(tmp_path: Path) -> None:
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert "LoadCredential=key" in refused(NotReady, lambda: from_credentials("key", {})).next_step
    refused(NotReady, lambda: from_credentials("key", environment))
    for name in ("", "..", "../key", "/etc/passwd"):
        refused(Misconfigured, lambda name=name: from_credentials(name, environment))  # type: ignore[misc]
    (tmp_path / "key").write_text(CANARY.hex())
    (tmp_path / "key").chmod(0o444)
    refused(Misconfigured, lambda: from_credentials("key", environment))
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "key").write_bytes(CANARY)
    refused(Misconfigured, lambda: from_credentials("key", environment))


# -- where a key must not show


@dataclasses.dataclass
class _Holder:
    key: SecretKey


def test_a_key_is_in_no_text_of_itself_and_of_what_holds_it() -> None:
    key = SecretKey(CANARY)
    texts = [
        repr(key),
        str(key),
        f"{key}",
        f"{key!r:>80}",
        ascii(key),
        repr(_Holder(key)),
        repr([key]),
        repr({"k": key}),
    ]
    texts.append(repr(key.signer()))
    assert all(not shows(text) for text in texts)
    assert ADDRESS in repr(key), "so that a person knows which it is"
    assert shows(repr(CANARY)) and shows(CANARY.hex()) and shows(str(list(CANARY))), "the net has no hole"


def test_a_key_is_neither_pickled_nor_copied_nor_taken_apart() -> None:
    key = SecretKey(CANARY)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError) as raised:
            pickle.dumps(_Holder(key), protocol)
        assert not shows(told(raised.value))
    for way in (copy.copy, copy.deepcopy, json.dumps, vars):
        with pytest.raises(TypeError):
            way(key)
    with pytest.raises(TypeError):
        dataclasses.asdict(_Holder(key))


def test_a_key_is_in_no_log_record(caplog: pytest.LogCaptureFixture, file: Path) -> None:
    key = open_key(file, PHRASE)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("edgeclaw").info("opened %s and %r", key, _Holder(key))
        try:
            key.signer().digest(b"too short")
        except ValueError:
            logging.getLogger("edgeclaw").exception("signing with %s", key)
        try:
            open_key(file, "another")
        except Misconfigured:
            logging.getLogger("edgeclaw").exception("opening")
    assert len(caplog.records) >= 3 and not shows(caplog.text)


@pytest.mark.parametrize("raw", [b"", CANARY[:31], CANARY + b"\x00", bytes(32), b"\xff" * 32])
def test_what_is_no_key_is_refused_without_being_repeated(raw: bytes) -> None:
    for call in (lambda: SecretKey(raw), lambda: SecretKey.of_hex(raw.hex())):
        error = refused(Misconfigured, call)
        assert not raw.hex() or raw.hex() not in told(error)


def test_a_wiped_key_signs_no_more(file: Path) -> None:
    with open_key(file, PHRASE) as key:
        assert key.signer().address == ADDRESS
    for call in (key.signer, key.reveal):
        assert "was wiped" in str(refused(Misconfigured, call))
    assert key.address == ADDRESS
