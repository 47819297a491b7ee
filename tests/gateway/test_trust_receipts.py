"""Keys, signatures and receipts: what is genuine is taken, and whatever has been changed is told apart."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import pytest

from lathe.gateway.canonical import canonical
from lathe.gateway.receipts import Receipt, Usage, document, signed, verify_receipt
from lathe.gateway.signing import KeyRing, Signer, verify
from lathe.protocol.errors import ConfigError, UsageError

RECEIPT = Receipt(
    id="req_0123456789abcdef",
    at=1_790_000_000_000,
    organisation="org_1",
    project="proj_1",
    user="user_1",
    key="key_1",
    requested="gpt-x\u001f\t[1m] «é»",
    served="gpt-y",
    substitution="fallback:model_not_open",
    wire="responses",
    surface="cli",
    outcome="serve",
    policy="0" * 64,
    replica="rep_1",
    clause="rollout:gpt-y:1",
    usage=Usage(input=1200, cached=1000, output=50),
    cost=4_200,
)


@pytest.fixture
def signer() -> Signer:
    return Signer.fresh()


def receipt_of(signer: Signer) -> bytes:
    return document(*signed(RECEIPT, signer), signer.key_id)


def test_a_receipt_is_verified_from_its_document_alone(signer: Signer) -> None:
    ring = KeyRing.from_json(KeyRing([signer.public_key]).to_json())
    text = receipt_of(signer)
    assert verify_receipt(text, ring) == RECEIPT
    assert canonical(json.loads(text)) == text
    laid_out = json.dumps(dict(reversed(json.loads(text).items())), indent=4).encode()
    assert verify_receipt(laid_out, ring) == RECEIPT


def test_a_receipt_with_any_one_bit_changed_is_refused(signer: Signer) -> None:
    ring = KeyRing([signer.public_key])
    text = receipt_of(signer)
    for bit in range(len(text) * 8):
        changed = bytearray(text)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UsageError):
            verify_receipt(bytes(changed), ring)


def test_each_way_to_be_wrong_has_its_own_sentence(signer: Signer) -> None:
    ring = KeyRing([signer.public_key])
    genuine = json.loads(receipt_of(signer))
    other = Signer.fresh()
    text = canonical({"type": "lathe.entitlement.v1", "id": "ent_1"})
    wrong = {
        "receipt_malformed": [
            b"",
            b"[]",
            b"\xff\xfe",
            b"[" * 10_000,
            b"0" * 1_000_001,
            json.dumps(genuine | {"note": ""}).encode(),
            json.dumps(genuine | {"receipt": 1}).encode(),
            json.dumps(genuine)[:-1].encode() + b', "key": "' + signer.key_id.encode() + b'"}',
        ],
        "receipt_key_unknown": [document(*signed(RECEIPT, other), other.key_id)],
        "receipt_changed": [
            json.dumps(genuine | {"receipt": genuine["receipt"] | {"served": "gpt-x"}}).encode(),
            document(*signed(RECEIPT, other), signer.key_id),
            json.dumps(genuine | {"signature": ""}).encode(),
        ],
        "receipt_unknown": [document(text.decode(), signer.sign(text), signer.key_id)],
    }
    sentences: set[str] = set()
    for code, documents in wrong.items():
        for one in documents:
            with pytest.raises(UsageError) as failed:
                verify_receipt(one, ring)
            assert failed.value.code == code
            assert failed.value.message.endswith(".") and "\n" not in failed.value.message
        sentences.add(failed.value.message)
    assert len(sentences) == len(wrong)


def test_a_key_is_made_once_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "signing.pem"
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(Signer.open(path).key_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["signing.pem"]


def test_what_an_old_key_signed_is_verified_after_a_new_one_came(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    old = Signer.open(path)
    ring = KeyRing([old.public_key])
    new = Signer.renew(path)
    assert new.key_id != old.key_id and Signer.open(path).key_id == new.key_id
    assert path.stat().st_mode & 0o777 == 0o600
    both = ring.joined(new.public_key)
    assert set(both) == {old.key_id, new.key_id}
    for signer in (old, new):
        assert verify_receipt(receipt_of(signer), both) == RECEIPT
    with pytest.raises(UsageError, match=new.key_id):
        verify_receipt(receipt_of(new), ring)


def test_a_key_that_is_not_secret_or_not_a_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    Signer.open(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="other users") as failed:
        Signer.open(path)
    assert "chmod 600" in failed.value.hint
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(ConfigError, match="holds no Ed25519"):
        Signer.open(path)
    with pytest.raises(ConfigError, match="can't be used"):
        Signer.open(path / "below")


def test_a_key_ring_that_lies_about_an_id_is_refused(signer: Signer) -> None:
    text = KeyRing([signer.public_key]).to_json().replace(signer.key_id.encode(), b"0" * 16)
    for wrong in (
        text,
        b"{}",
        b'{"keys":[{"kty":"RSA"}]}',
        b"\xff",
        b'{"keys":[{"crv":"Ed25519","x":"AA","kid":"1"}]}',
    ):
        with pytest.raises(UsageError):
            KeyRing.from_json(wrong)


def test_a_signature_has_one_text_only(signer: Signer) -> None:
    """RFC 8032 gives 64 bytes; their base64url has four bits to spare, and leaves none of them free."""
    signature = signer.sign(b"data")
    assert verify(signer.public_key, b"data", signature)
    random.seed(5)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert not any(
        verify(signer.public_key, b"data", signature[:-1] + last) for last in alphabet if last != signature[-1]
    )
    assert not verify(signer.public_key, b"data", signature + "==")
    assert not verify(signer.public_key, b"data", "")
    assert not verify("", b"data", signature)
