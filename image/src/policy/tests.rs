//! Policies, the signatures they accept, and the files they refuse.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::*;

struct Signer(EcdsaKeyPair, SystemRandom);

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        Self(
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pair.as_ref(), &random).unwrap(),
            random,
        )
    }

    /// The key as `keyData`.
    fn data(&self) -> String {
        let prefix = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=";
        let der = [STANDARD.decode(prefix).unwrap(), self.0.public_key().as_ref().to_vec()].concat();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
        STANDARD.encode(pem)
    }

    fn sign(&self, payload: &str) -> Signature {
        let signature = self.0.sign(&self.1, payload.as_bytes()).unwrap();
        Signature { payload: payload.into(), signature: STANDARD.encode(signature) }
    }
}

fn payload(name: &str, digest: &Digest) -> String {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{digest}"}},
            "type":"cosign container image signature"}},"optional":{{"any":1}}}}"#
    )
}

fn parse(text: &str) -> Result<Policy, PolicyFileError> {
    Policy::parse(Path::new("policy.json"), text.as_bytes())
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

#[test]
fn the_most_specific_scope_decides() {
    let policy = parse(
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{
            "a.example":[{"type":"insecureAcceptAnything"}],
            "a.example/team":[{"type":"reject"}],
            "a.example/team/app":[{"type":"insecureAcceptAnything"}],
            "a.example/team/app:bad":[{"type":"reject"}],
            "*.wild.example":[{"type":"insecureAcceptAnything"}],
            "signed.example":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/x"}],
            "rekor.example":[{"type":"sigstoreSigned","keyPath":"/x","rekorPublicKeyPath":"/y"}],
            "fulcio.example":[{"type":"sigstoreSigned","fulcio":{"caPath":"/x"}}]
        },"docker-daemon":{"":[{"type":"insecureAcceptAnything"}]}}}"#,
    )
    .unwrap();
    for (name, allowed) in [
        ("a.example/other", true),
        ("a.example/team/other", false),
        ("a.example/team/app:1", true),
        ("a.example/team/app/more", true),
        ("a.example/teams/x", true),
        ("a.example/team/app:bad", false),
        ("x.y.wild.example/a", true),
        ("wild.example/a", false),
        ("b.example/a", false),
        ("signed.example/a", false),
        ("rekor.example/a", false),
        ("fulcio.example/a", false),
    ] {
        let reference = reference(name);
        assert_eq!(policy.demand(&reference).is_ok(), allowed, "{name}");
    }
    let named = |name: &str| policy.demand(&reference(name)).err().unwrap().to_string();
    assert!(named("signed.example/a").contains("signedBy"));
    assert!(named("rekor.example/a").contains("Rekor"));
    assert!(named("fulcio.example/a").contains("fulcio"));
}

#[test]
fn only_the_right_signature_lets_an_image_in() {
    let (signer, other) = (Signer::new(), Signer::new());
    let text = format!(
        r#"{{"default":[{{"type":"sigstoreSigned","keyData":"{}","signedIdentity":{{"type":"matchRepository"}}}}]}}"#,
        signer.data()
    );
    let policy = parse(&text).unwrap();
    let (image, digest, wrong) = (reference("a.example/app:1"), Digest::of(b"index"), Digest::of(b"other"));
    let manifest = Digest::of(b"manifest");
    let demand = policy.demand(&image).unwrap();
    assert!(demand.needs_signatures());
    let judge = |signatures: &[Signature]| demand.judge(signatures, &[&digest, &manifest]);
    let good = signer.sign(&payload("a.example/app", &digest));
    let of_manifest = signer.sign(&payload("a.example/app", &manifest));
    let changed = Signature { payload: payload("a.example/app", &wrong).into(), ..good.clone() };
    let odd = signer.sign(&payload("a.example/app", &digest).replace("cosign container", "some other"));
    let more = signer.sign(&payload("a.example/app", &digest).replace("\"type\"", "\"x\":1,\"type\""));
    let bad = [
        (changed, SignatureError::Key),
        (other.sign(&payload("a.example/app", &digest)), SignatureError::Key),
        (Signature { signature: "!".into(), ..good.clone() }, SignatureError::Key),
        (signer.sign(&payload("a.example/app", &wrong)), SignatureError::Digest(wrong.to_string())),
        (signer.sign(&payload("b.example/app", &digest)), SignatureError::Identity("b.example/app".into())),
        (signer.sign("{}"), SignatureError::Payload),
        (odd, SignatureError::Payload),
        (more, SignatureError::Payload),
    ];
    assert!(matches!(judge(&[]), Err(PolicyError::Unsigned { .. })));
    for (signature, reason) in &bad {
        let Err(PolicyError::Untrusted { reasons, .. }) = judge(std::slice::from_ref(signature)) else {
            panic!("{signature:?}")
        };
        assert_eq!(reasons.iter().collect::<Vec<_>>(), [reason]);
        assert_eq!(judge(&[signature.clone(), good.clone()]), Ok(()));
    }
    assert_eq!(judge(&[of_manifest]), Ok(()));
}

#[test]
fn what_is_not_understood_spoils_the_file() {
    let key = Signer::new().data();
    let signed = |fields: &str| format!(r#"{{"default":[{{"type":"sigstoreSigned"{fields}}}]}}"#);
    assert!(parse(&signed(&format!(r#","keyData":"{key}""#))).is_ok());
    for text in [
        "{}".to_owned(),
        r#"{"default":[]}"#.into(),
        r#"{"default":[{"type":"reject"}],"more":1}"#.into(),
        r#"{"default":[{"type":"reject","more":1}]}"#.into(),
        r#"{"default":[{"type":"unknown"}]}"#.into(),
        r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#.into(),
        r#"{"default":[{"type":"reject"}],"transports":{"docker":{"":[]}}}"#.into(),
        signed(""),
        signed(&format!(r#","keyData":"{key}","keyPath":"/x""#)),
        signed(r#","keyDatas":[]"#),
        signed(r#","keyData":"AAAA""#),
        signed(r#","keyPath":"/nonexistent/key""#),
        signed(&format!(r#","keyData":"{key}","keyType":"x""#)),
        signed(&format!(r#","keyData":"{key}","signedIdentity":{{"type":"unknown"}}"#)),
        signed(&format!(r#","keyData":"{key}","signedIdentity":{{"type":"matchExact","more":1}}"#)),
        signed(&format!(
            r#","keyData":"{key}","signedIdentity":{{"type":"exactReference","dockerReference":"A B"}}"#
        )),
    ] {
        assert!(parse(&text).is_err(), "{text}");
    }
}

#[test]
fn any_policy_and_statement_is_read_or_refused() {
    let key = Signer::new();
    let text = format!(
        r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{"a.b":[{{"type":"sigstoreSigned",
            "keyData":"{}","signedIdentity":{{"type":"remapIdentity","prefix":"a","signedPrefix":"b"}}}}]}}}}}}"#,
        key.data()
    );
    crate::fuzz::run("policy.json", &[text.as_bytes()], |input| {
        drop(Policy::parse(Path::new("policy.json"), input));
    });
}
