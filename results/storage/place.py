"""Where runs are: a folder, or an address in object storage (s3://bucket/prefix) that is used like one.

Object storage has neither folders nor renames. A run there is whole when its run.json is, which is written last and removed first; DuckDB
reads its Parquet files in place. Credentials, region and endpoint come from the environment, as with every S3 client: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL (for a server that is not Amazon's).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs

SCHEME = "s3://"
CONNECT, ANSWER, ATTEMPTS = 5.0, 30.0, 2  # s, s: an address at which nobody answers must be reported soon


class PlaceError(RuntimeError):
    """Object storage that cannot be reached or used; the message says which address, why, and what to check."""


@dataclass(frozen=True, order=True)
class Address:
    """A place in object storage, with the methods of a Path that run folders need. key: 'bucket/prefix/...'.

    Every method raises PlaceError where the storage does not answer or refuses; reading what does not exist raises FileNotFoundError.
    """

    key: str

    @property
    def name(self) -> str:
        """The last part of the address."""
        return PurePosixPath(self.key).name

    @property
    def parent(self) -> "Address":
        """The address without its last part."""
        return Address(str(PurePosixPath(self.key).parent))

    def __truediv__(self, name: str) -> "Address":
        return Address(f"{self.key}/{name}")

    def __str__(self) -> str:
        return f"{SCHEME}{self.key}"

    def is_file(self) -> bool:
        """Whether an object of this name exists."""
        with self._asked():
            return bool(storage().get_file_info(self.key).type == fs.FileType.File)

    def read_bytes(self) -> bytes:
        """The object's content."""
        with self._asked(), storage().open_input_stream(self.key) as stream:
            return bytes(stream.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        """The object's content as text."""
        return self.read_bytes().decode(encoding)

    def open(self) -> Any:
        """The object as a file that can be read anywhere in it."""
        with self._asked():
            return storage().open_input_file(self.key)

    def write_bytes(self, content: bytes) -> None:
        """Write the object, in place of an older one; whole or not at all."""
        with self._asked(), storage().open_output_stream(self.key) as stream:
            stream.write(content)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the object."""
        if not missing_ok or self.is_file():
            with self._asked():
                storage().delete_file(self.key)

    def objects(self) -> list["Address"]:
        """All objects below, at any depth, by name. [] when there are none; a bucket that does not exist is an error."""
        return [found for found, _, _ in self.listing()]

    def listing(self) -> list[tuple["Address", int, int]]:
        """The same with each object's size in bytes and when it was written, ns since 1970."""
        with self._asked():
            bucket = self.key.partition("/")[0]
            if storage().get_file_info(bucket).type == fs.FileType.NotFound:
                raise PlaceError(f"{self}: there is no bucket {bucket}; make it, or correct the address")
            found = storage().get_file_info(fs.FileSelector(self.key, allow_not_found=True, recursive=True))
        return sorted((Address(info.path), info.size, info.mtime_ns) for info in found if info.type == fs.FileType.File)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            hint = "check the address, the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and AWS_ENDPOINT_URL"
            raise PlaceError(f"{self}: object storage cannot be used ({' '.join(str(error).split())}); {hint}") from error


Place = Path | Address


def place(text: str | Path) -> Place:
    """The folder or the address that a setting names. Raises PlaceError for an address without a bucket."""
    if not str(text).startswith(SCHEME):
        return Path(text)
    key = str(text).removeprefix(SCHEME).strip("/")
    if not key:
        raise PlaceError(f"{text}: an address names a bucket, like s3://bucket/prefix")
    return Address(key)


def reach(root: Place) -> None:
    """See that runs can be kept at `root`, before hours are spent on them. Raises PlaceError when object storage does not answer."""
    if isinstance(root, Address):
        root.objects()


@cache
def storage() -> fs.S3FileSystem:
    """The client of this process."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    elsewhere = {}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        elsewhere = {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or endpoint:
        elsewhere["region"] = region or "us-east-1"
    retry = fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)
    return fs.S3FileSystem(connect_timeout=CONNECT, request_timeout=ANSWER, retry_strategy=retry, **elsewhere)


def upload(folder: Path, address: Address, last: str) -> None:
    """Put a folder's files at `address`. The file `last` is written last, so that all are there once it is. Raises PlaceError."""
    (address / last).unlink(missing_ok=True)
    for path in sorted(folder.iterdir(), key=lambda p: (p.name == last, p.name)):
        (address / path.name).write_bytes(path.read_bytes())


def download(address: Address, folder: Path) -> Path:
    """Put the objects right below `address` into `folder` (made if need be); return it. Raises PlaceError."""
    folder.mkdir(parents=True, exist_ok=True)
    for found in address.objects():
        if found.parent == address:
            (folder / found.name).write_bytes(found.read_bytes())
    return folder
