//! Settings of the datastore from bad text: no panic, and every refusal says something.

#![allow(clippy::unwrap_used, reason = "a test: what cannot be ends it")]

use calico_store::config::Settings;
use calico_testkit::mutation::text_mutations;

#[test]
fn settings_survive_bad_text() {
    let seeds: &[&[u8]] = &[
        b"DATASTORE_TYPE=etcdv3\nETCD_ENDPOINTS=https://a:2379,https://b:2379\nETCD_KEY_FILE=/k\nETCD_CERT_FILE=/c\n",
        b"FELIX_DATASTORETYPE=embedded\nCALICO_DATASTORE_PATH=/x\n",
        b"datastoreType=etcdv3\netcdEndpoints=http://a:1\netcdUsername=u\netcdPassword=p\n",
        b"datastore_type=kubernetes\n",
        b"ETCD_AUTHORITY=a:1\nETCD_SCHEME=https\n",
    ];
    let (mut good, mut bad) = (0, 0);
    for text in text_mutations(seeds, 5_000, 1) {
        let lookup = |name: &str| {
            text.lines()
                .filter_map(|l| l.split_once('='))
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.to_owned())
        };
        for settings in [
            Settings::from_environment(&lookup),
            Settings::from_felix_environment(&lookup),
            Settings::from_api_config(&lookup),
            Settings::from_netconf(&lookup),
        ] {
            match settings.resolve() {
                Ok(_) => good += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    bad += 1;
                }
            }
        }
    }
    assert!(good > 1_000 && bad > 1_000, "{good} good, {bad} bad");
}
