"""Keeps erased persons out of Spark frames: their ids are hashed by Spark's own functions, no Python in between."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from flywheel.kernel.erasure import PSEUDONYM_DIGITS, EraseKey, Erasures, Named
from flywheel.kernel.features import join_id

_BLOCK_BYTES = 64
_PSEUDONYM, _UNTIL = "_erased_pseudonym", "_erased_until_us"


def without_erased(
    rows: DataFrame, named: Iterable[Named], arrived: Column, erasures: Erasures, *, within: str = ""
) -> DataFrame:
    """The rows that name nobody who was erased after they arrived; columns stay as they were.

    `named` as `kernel.erasure.named_in` gives it for the event in the rows, whose fields are columns below `within`
    (such as `envelope.event.`); `arrived`: a timestamp, the row is kept where it is null. Works on batch and streaming
    frames; a streaming query keeps the erasures it was started with. The query plan holds the erasure key in a padded
    form, so no plan may be logged.
    """
    for entity, fields in named:
        until_us = erasures.of(entity)
        if until_us:
            ids = _joined([F.col(within + field) for field in fields])
            rows = _without(rows, pseudonyms(ids, erasures.key, entity), arrived, until_us)
    return rows


def pseudonyms(ids: Column, key: EraseKey, entity: str) -> Column:
    """`EraseKey.pseudonym` of every id: HMAC-SHA256 (RFC 2104) made of Spark's hash; null for null."""
    secret = key.secret if len(key.secret) <= _BLOCK_BYTES else hashlib.sha256(key.secret).digest()
    block = secret.ljust(_BLOCK_BYTES, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in block) for pad in (0x36, 0x5C))
    message = F.concat(F.lit(bytearray(inner + key.prefix(entity))), ids.cast("binary"))
    digest = F.sha2(F.concat(F.lit(bytearray(outer)), F.unhex(F.sha2(message, 256))), 256)
    return F.substring(digest, 1, PSEUDONYM_DIGITS)


def _joined(parts: list[Column]) -> Column:
    """`join_id` of every row; null where a part is."""
    between = F.lit(join_id(["", ""]))
    joined = parts[0].cast("string")
    for part in parts[1:]:
        joined = F.concat(joined, between, part.cast("string"))
    return joined


def _without(rows: DataFrame, hashed: Column, arrived: Column, until_us: Mapping[str, int]) -> DataFrame:
    table = pa.table({_PSEUDONYM: list(until_us), _UNTIL: pa.array(until_us.values(), pa.int64())})
    erased = F.broadcast(rows.sparkSession.createDataFrame(table))
    joined = rows.withColumn("_hashed", hashed).join(erased, F.col("_hashed") == F.col(_PSEUDONYM), "left")
    kept = F.col(_UNTIL).isNull() | F.coalesce(F.unix_micros(arrived) > F.col(_UNTIL), F.lit(True))
    return joined.where(kept).drop("_hashed", _PSEUDONYM, _UNTIL)
