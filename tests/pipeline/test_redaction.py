import pytest

from hscc.pipeline.redaction import redact, redactor


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("postgresql://hscc:s3cret@db/mlflow is down", "postgresql://***@db/mlflow is down"),
        ("postgresql://hscc:s3c@ret@db/mlflow", "postgresql://***@db/mlflow"),
        ("https://token@example.org/a?x=1", "https://***@example.org/a?x=1"),
        ("https://example.org/a?x=1&access_token=abc&y=2", "https://example.org/a?x=1&access_token=***&y=2"),
        ("https://s.org/a?X-Amz-Signature=abc;", "https://s.org/a?X-Amz-Signature=***;"),
        ("mail a@example.org, see models:/hscc-brain-mri@champion", None),
        ("accuracy 0.9, 3 keys", None),
    ],
)
def test_credentials_of_addresses_are_masked(said: str, shown: str | None) -> None:
    assert redact(said) == (said if shown is None else shown)


def test_values_of_secret_variables_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_KEY", "abcdef123")
    monkeypatch.setenv("SHORT_TOKEN", "on")
    monkeypatch.setenv("ORDINARY", "ordinary")
    assert redact("key abcdef123, on, ordinary") == "key ***, on, ordinary"


def test_the_secrets_of_another_environment_are_masked() -> None:
    mask = redactor({"KAGGLE_KEY": "abcdef123", "X_TOKEN": "abcdef", "CERT_PRIVATE_KEY": "-----BEGIN\nMIIEvQ=="})
    assert mask("abcdef123 and abcdef; MIIEvQ==") == "*** and ***; ***"
    assert redactor({})("abcdef123") == "abcdef123"
