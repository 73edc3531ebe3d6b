use super::*;

proptest::proptest! {
    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        classify(&octets);
    }
}
