"""Who a person is: sign-in by OpenID Connect or passkey, web sessions, SCIM, and proofs of identity."""
