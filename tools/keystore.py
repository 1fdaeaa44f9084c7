"""Private key storage: an encrypted file (Ethereum's keystore, version 3) or a systemd credential, and in memory a
value that never displays it.

Wiping is best effort: the interpreter and the signing libraries make copies out of reach. Knows no wallets, no chain,
and reads no environment of its own.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from market.errors import DataInvalid, Misconfigured, NotReady
from tools.polymarket.signing import Signer

WORK = 1 << 18
"""scrypt work factor: 256 MiB and about a second on a small machine."""
_MOST_WORK = 1 << 20
_BYTES = 32
_LONGEST = 1 << 16
"""Largest file in bytes; a keystore has about 500."""
_DIRECTORY = "CREDENTIALS_DIRECTORY"
_OTHERS, _EVERYBODY = 0o077, 0o007


class SecretKey:
    """A private key of 32 bytes with the `address` of its account. Used in a with block, it is wiped at the end."""

    __slots__ = ("__raw", "address")

    def __init__(self, raw: bytes | bytearray) -> None:
        """Raises Misconfigured if no account can have such a key."""
        if len(raw) != _BYTES:  # the library would fill a shorter one up with zeros
            raise Misconfigured(f"The private key is not {_BYTES} bytes.", next_step="Check the key file.")
        self.address = Signer(bytes(raw)).address
        self.__raw = bytearray(raw)

    @classmethod
    def of_hex(cls, text: str) -> SecretKey:
        """Parse 64 hexadecimal digits, with or without 0x. Raises Misconfigured, which does not repeat them."""
        signer = Signer.of_hex(text)
        key = cls.__new__(cls)
        key.address, key.__raw = signer.address, bytearray.fromhex(text.strip().removeprefix("0x"))
        return key

    def signer(self) -> Signer:
        """Signer with this key. Raises Misconfigured once it is wiped."""
        return Signer(self.reveal())

    def reveal(self) -> bytes:
        """The raw bytes, for a library that takes nothing else. Raises Misconfigured once they are wiped."""
        if not any(self.__raw):
            raise Misconfigured(f"The key of {self.address} was wiped.", next_step="Open the key file again.")
        return bytes(self.__raw)

    def wipe(self) -> None:
        self.__raw[:] = bytes(len(self.__raw))

    def __enter__(self) -> SecretKey:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"SecretKey({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is never written down")


# -- the encrypted file


def create(path: Path, key: SecretKey, passphrase: str, *, work: int = WORK) -> None:
    """Write an encrypted file that only its owner can read; an existing one is never overwritten.

    `work` is a power of two. Raises Misconfigured, and DataInvalid if the disk fails.
    """
    from eth_account import Account

    if not passphrase:
        raise Misconfigured("A key file needs a passphrase.", next_step="Give one that is not empty.")
    made = Account.encrypt(key.reveal(), passphrase, kdf="scrypt", iterations=work)
    try:
        # O_EXCL, so that the check for an existing key and the creation are one step.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Misconfigured(f"{path} exists already.", next_step="Choose another name, or move it away.") from None
    except OSError as error:
        raise _write_failed(path, error) from None
    try:
        with os.fdopen(file, "w") as out:
            os.fchmod(out.fileno(), 0o600)
            json.dump(made, out)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise _write_failed(path, error) from None


def _write_failed(path: Path, error: OSError) -> DataInvalid:
    return DataInvalid(f"{path} cannot be written ({error.strerror}).", next_step="Check the folder and its disk.")


def read_key(path: Path, passphrase: Callable[[], str]) -> SecretKey:
    """Read a key from a file: an encrypted one, with its `passphrase` from the callback, or 64 hexadecimal digits.
    Raises as `open_key` does."""
    text = _private(path, _OTHERS, f"Run: chmod 600 {path}")
    if text.lstrip().startswith(b"{"):
        return open_key(path, passphrase())
    return SecretKey.of_hex(text.decode("ascii", "replace"))


def secret_text(path: Path) -> str:
    """Read one line of a file that others cannot read: an address with a password in it, an API key. Raises NotReady,
    Misconfigured."""
    return _private(path, _OTHERS, f"Run: chmod 600 {path}").decode("utf-8", "replace").strip()


def open_key(path: Path, passphrase: str) -> SecretKey:
    """Decrypt a key file. Raises NotReady if it does not exist, Misconfigured if others can read it or the passphrase
    is wrong, and DataInvalid if it is no keystore."""
    from eth_account import Account

    keystore = _keystore(path, _private(path, _OTHERS, f"Run: chmod 600 {path}"))
    raw = None
    with suppress(ValueError):  # the library's word for another passphrase; anything else is a damaged file
        raw = _decrypted(Account, path, keystore, passphrase)
    if raw is None:
        raise Misconfigured(f"The passphrase does not open {path}.", next_step="Give the one it was made with.")
    key = SecretKey(raw)
    named = str(keystore.get("address") or key.address)
    if named.lower().removeprefix("0x") != key.address.lower().removeprefix("0x"):
        raise DataInvalid(
            f"{path} is damaged: its key is not of the address it names."
        )  # its checksum leaves parts out
    return key


def _decrypted(account: Any, path: Path, keystore: Mapping[str, Any], passphrase: str) -> bytes:
    try:
        return bytes(account.decrypt(keystore, passphrase))
    except (KeyError, TypeError, AttributeError, NotImplementedError, OverflowError):
        raise _no_keystore(path) from None


def _keystore(path: Path, text: bytes) -> dict[str, Any]:
    """Parse the file's JSON; refuse one whose decryption would take more memory or time than a real one."""
    try:
        keystore = json.loads(text)
        crypto = keystore["crypto"]
        work = crypto["kdfparams"]
        rounds = int(work["n"]) * int(work["r"]) * int(work["p"]) if crypto["kdf"] == "scrypt" else int(work["c"])
        most = _MOST_WORK * 8
        sound = (
            keystore["version"] == 3
            and 0 < rounds <= most
            and all(type(crypto[n]) is str for n in ("ciphertext", "mac"))
        )
        bytes.fromhex(crypto["ciphertext"] + crypto["mac"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _no_keystore(path) from None
    if not sound:
        raise _no_keystore(path)
    return dict(keystore)


def _no_keystore(path: Path) -> DataInvalid:
    return DataInvalid(f"{path} is not a keystore file of version 3.", next_step="Make one: edgeclaw wallet keystore")


# -- systemd credentials


def from_credentials(name: str, environment: Mapping[str, str]) -> SecretKey:
    """Raw key in a credential of the service (LoadCredential=), as 64 hexadecimal digits. Raises NotReady if systemd
    gave none and Misconfigured if it is no key."""
    return SecretKey.of_hex(passphrase_from(name, environment))


def passphrase_from(name: str, environment: Mapping[str, str]) -> str:
    """A credential of the service as text, without the newline at its end."""
    if not name or name in (".", "..") or "/" in name:
        raise Misconfigured(f"{name!r} is not the name of a credential.", next_step="Give it as in LoadCredential=.")
    folder = environment.get(_DIRECTORY, "")
    if not folder:
        raise NotReady(
            "systemd gave this process no credentials.", next_step=f"Add LoadCredential={name}:FILE to its unit."
        )
    path = Path(folder) / name
    # systemd lets the service's user in by an access list, which shows as the group's bits
    text = _private(path, _EVERYBODY, f"Let systemd make it: LoadCredential={name}:FILE")
    words = text.decode(errors="replace")  # an error of decoding would hold what it could not read
    if "\N{REPLACEMENT CHARACTER}" in words:
        raise Misconfigured(f"The credential {name} is not text.", next_step="Write it as text.")
    return words.rstrip("\r\n")


def _private(path: Path, forbidden: int, next_step: str) -> bytes:
    """Read a file that others cannot read; the mode is checked on the open file, so that it is the one that is read."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & forbidden:
                raise Misconfigured(f"{path} can be read by others (its mode is {mode:04o}).", next_step=next_step)
            text = file.read(_LONGEST + 1)
    except FileNotFoundError:
        raise NotReady(f"There is no {path}.", next_step="Make one: edgeclaw wallet keystore") from None
    except OSError as error:
        raise NotReady(f"{path} cannot be read ({error.strerror}).", next_step="Check who owns it.") from None
    if len(text) > _LONGEST:
        raise DataInvalid(f"{path} is too long to be a key file.")
    return text
