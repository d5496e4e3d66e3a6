"""The SASL mechanism that an AUTH command names, as far as it may stand in the log."""

from __future__ import annotations

# The registry of SASL mechanisms (RFC 4422 section 6.1), and names that programs use without being in it.
_MECHANISMS = frozenset(
    {
        *("9798-M-DSA-SHA1", "9798-M-ECDSA-SHA1", "9798-M-RSA-SHA1-ENC"),
        *("9798-U-DSA-SHA1", "9798-U-ECDSA-SHA1", "9798-U-RSA-SHA1-ENC"),
        *("ANONYMOUS", "CRAM-MD5", "DIGEST-MD5", "EAP-AES128", "EAP-AES128-PLUS", "ECDH-X25519-CHALLENGE"),
        *("ECDSA-NIST256P-CHALLENGE", "EXTERNAL", "GS2-KRB5", "GS2-KRB5-PLUS", "GSS-SPNEGO", "GSSAPI", "KERBEROS_V4"),
        *("KERBEROS_V5", "LOGIN", "NMAS-SAMBA-AUTH", "NMAS_AUTHEN", "NMAS_LOGIN", "NTLM", "OAUTH10A", "OAUTHBEARER"),
        *("OPENID20", "OTP", "PLAIN", "SAML20", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256"),
        *("SCRAM-SHA-256-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-512-PLUS", "SECURID", "SKEY", "SPNEGO", "SPNEGO-PLUS"),
        *("SXOVER-PLUS", "XOAUTH", "XOAUTH2"),
    }
)


def sasl_mechanism(argument: str) -> str:
    """The mechanism in the argument of AUTH (RFC 4954 section 4), in upper case; `unknown` for any other word.

    Any other word may be a password in the wrong place.
    """
    name = "".join(argument.split(maxsplit=1)[:1]).upper()
    return name if name in _MECHANISMS else "unknown"
