use super::*;
use proptest::prelude::*;
use test_case::test_case;

const ALL: [Algorithm; 7] = [
    Algorithm::RoundRobin,
    Algorithm::LeastConnections,
    Algorithm::PowerOfTwo,
    Algorithm::LeastLatency,
    Algorithm::Random,
    Algorithm::First,
    Algorithm::Hash { load_max: 150 },
];

/// Some servers with weights, and a die of its own.
struct Field {
    balancer: Balancer,
    servers: Vec<(u32, Standing)>,
    dice: fastrand::Rng,
    now: Duration,
}

impl Field {
    fn new(weights: &[u32]) -> Self {
        let server = |(index, weight): (usize, &u32)| (weight * 1000, Standing::new(Seed::of(&format!("s{index}"))));
        let servers = weights.iter().enumerate().map(server).collect();
        Self { balancer: Balancer::default(), servers, dice: fastrand::Rng::with_seed(7), now: Duration::ZERO }
    }

    fn pick_for(&mut self, algorithm: Algorithm, key: Option<u64>) -> Option<usize> {
        let ask = Ask { key, now: self.now, dice: self.dice.u64(..) };
        let servers = self.servers.iter().enumerate();
        let candidates = servers.map(|(index, (weight, standing))| Candidate { index, weight: *weight, standing });
        self.balancer.pick(algorithm, candidates, &ask)
    }

    fn pick(&mut self, algorithm: Algorithm) -> Option<usize> {
        let key = self.dice.u64(..);
        self.pick_for(algorithm, Some(key))
    }

    fn shares(&mut self, algorithm: Algorithm, picks: u32) -> Vec<f64> {
        let mut counts = vec![0_u32; self.servers.len()];
        (0..picks).for_each(|_| counts[self.pick(algorithm).unwrap()] += 1);
        counts.iter().map(|count| f64::from(*count) / f64::from(picks)).collect()
    }
}

/// One more request that does not end.
fn begin(standing: &Standing) {
    assert!(standing.begin_below(u32::MAX));
}

fn expected(weights: &[u32]) -> Vec<f64> {
    let total: u32 = weights.iter().sum();
    weights.iter().map(|weight| f64::from(*weight) / f64::from(total)).collect()
}

#[track_caller]
fn assert_shares(shares: &[f64], expected: &[f64], within: f64) {
    let is_near = |(share, expected): (&f64, &f64)| (share - expected).abs() <= within;
    assert!(shares.iter().zip(expected).all(is_near), "{shares:?} are not {expected:?}");
}

#[test]
fn nobody_to_pick() {
    for algorithm in ALL {
        assert_eq!(Field::new(&[]).pick(algorithm), None, "{algorithm:?}");
        assert_eq!(Field::new(&[0, 0]).pick(algorithm), None, "{algorithm:?}: all weights are 0");
        assert_eq!(Field::new(&[0, 1, 0]).pick(algorithm), Some(1), "{algorithm:?}");
        assert_eq!(Field::new(&[0, 1, 0]).pick_for(algorithm, None), Some(1), "{algorithm:?} without a key");
    }
}

#[test_case(&[100, 100, 100], "012012"; "equals")]
#[test_case(&[5, 1, 1], "000120000012"; "a heavy one is not all at once")]
#[test_case(&[2, 1], "010010"; "two to one")]
#[test_case(&[256, 0, 256], "020202"; "one without weight")]
fn turns(weights: &[u32], expected: &str) {
    let mut field = Field::new(weights);
    let order: String = expected.chars().map(|_| field.pick(Algorithm::RoundRobin).unwrap().to_string()).collect();
    assert_eq!(order, expected);
}

#[test]
fn who_comes_back_has_no_arrears() {
    let mut field = Field::new(&[100, 100, 0]);
    field.shares(Algorithm::RoundRobin, 1_000);
    field.servers[2].0 = 100_000;
    assert_shares(&field.shares(Algorithm::RoundRobin, 30), &[1.0 / 3.0; 3], 0.034);
}

#[test]
fn weights_change_while_it_runs() {
    let mut field = Field::new(&[100, 100]);
    field.shares(Algorithm::RoundRobin, 999);
    field.servers[0].0 = 25_000;
    assert_shares(&field.shares(Algorithm::RoundRobin, 1_000), &[0.2, 0.8], 0.01);
}

#[test]
fn turns_survive_the_end_of_numbers() {
    let mut field = Field::new(&[1, 3]);
    field.balancer.turns = Turns::at(u64::MAX - 10);
    assert_shares(&field.shares(Algorithm::RoundRobin, 10_000), &[0.25, 0.75], 0.01);
}

/// Requests that do not end: who works on most for its weight gets no more.
#[test_case(Algorithm::LeastConnections; "least connections")]
#[test_case(Algorithm::PowerOfTwo; "power of two")]
fn the_load_follows_weights(algorithm: Algorithm) {
    let weights = [100, 50, 250];
    let mut field = Field::new(&weights);
    let mut counts = [0_u32; 3];
    for _ in 0..10_000 {
        let index = field.pick(algorithm).unwrap();
        begin(&field.servers[index].1);
        counts[index] += 1;
    }
    let shares = counts.map(|count| f64::from(count) / 10_000.0);
    assert_shares(&shares, &expected(&weights), 0.01);
}

#[test]
fn who_works_on_less_is_next() {
    let mut field = Field::new(&[100, 100]);
    (0..3).for_each(|_| begin(&field.servers[0].1));
    assert!((0..100).all(|_| field.pick(Algorithm::LeastConnections) == Some(1)));
    assert!((0..100).all(|_| field.pick(Algorithm::PowerOfTwo) == Some(1)), "of two, both are drawn");
    (0..3).for_each(|_| field.servers[0].1.end());
    assert_shares(&field.shares(Algorithm::LeastConnections, 100), &[0.5, 0.5], 0.01);
}

#[test]
fn a_server_takes_so_many_and_no_more() {
    let standing = Standing::new(Seed::of("a"));
    assert_eq!([standing.begin_below(2), standing.begin_below(2), standing.begin_below(2)], [true, true, false]);
    standing.end();
    assert!(standing.begin_below(2));
}

#[test]
fn the_first_is_the_first() {
    let mut field = Field::new(&[0, 1, 256]);
    assert!((0..10).all(|_| field.pick(Algorithm::First) == Some(1)));
}

/// Two seconds of requests to servers that take their time; then who got how many.
fn seconds_of(field: &mut Field, seconds: u32, took: &[Duration]) -> Vec<f64> {
    let mut counts = vec![0_u32; took.len()];
    let mut ends: Vec<(Duration, usize)> = Vec::new();
    for _ in 0..seconds * 200 {
        field.now += Duration::from_millis(5);
        let now = field.now;
        for (_, index) in ends.extract_if(.., |(end, _)| *end <= now) {
            field.servers[index].1.end();
            field.servers[index].1.latency.observe(took[index], now);
        }
        let index = field.pick(Algorithm::LeastLatency).unwrap();
        begin(&field.servers[index].1);
        ends.push((now + took[index], index));
        counts[index] += 1;
    }
    for (end, index) in ends {
        field.servers[index].1.end();
        field.servers[index].1.latency.observe(took[index], end);
    }
    counts.iter().map(|count| f64::from(*count) / f64::from(seconds * 200)).collect()
}

#[test]
fn a_slow_server_is_spared_until_it_heals() {
    let [fast, slow] = [20, 200].map(Duration::from_millis);
    let mut field = Field::new(&[100, 100, 100]);
    assert_shares(&seconds_of(&mut field, 20, &[fast; 3]), &[1.0 / 3.0; 3], 0.05);
    let shares = seconds_of(&mut field, 60, &[fast, slow, fast]);
    assert!(shares[1] < 0.05, "{shares:?}");
    assert!(shares[1] > 0.0, "it is tried now and then: {shares:?}");
    seconds_of(&mut field, 60, &[fast; 3]);
    assert_shares(&seconds_of(&mut field, 20, &[fast; 3]), &[1.0 / 3.0; 3], 0.05);
}

#[test]
fn nobody_knows_a_new_server() {
    let mut field = Field::new(&[100, 100]);
    field.servers[0].1.latency.observe(Duration::from_millis(10), field.now);
    assert_eq!(field.pick(Algorithm::LeastLatency), Some(1), "it is tried at once");
    begin(&field.servers[1].1);
    assert!((0..20).all(|_| field.pick(Algorithm::LeastLatency) == Some(0)), "with one request");
}

#[test]
fn only_the_keys_of_the_one_who_goes_move() {
    let hash = Algorithm::Hash { load_max: 150 };
    let mut field = Field::new(&[100, 50, 100, 200]);
    let before: Vec<_> = (0..10_000).map(|key| field.pick_for(hash, Some(key)).unwrap()).collect();
    field.servers[2].0 = 0;
    let after: Vec<_> = (0..10_000).map(|key| field.pick_for(hash, Some(key)).unwrap()).collect();
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == 2));
    assert!(after.iter().all(|after| *after != 2));
}

#[test]
fn too_much_for_one_goes_to_another() {
    let hash = Algorithm::Hash { load_max: 150 };
    let mut field = Field::new(&[100, 100, 100, 100]);
    let mut counts = [0_u32; 4];
    for _ in 0..1_000 {
        let index = field.pick_for(hash, Some(42)).unwrap();
        begin(&field.servers[index].1);
        counts[index] += 1;
    }
    assert!(counts.iter().all(|count| *count <= 376), "one and a half times 250: {counts:?}");
}

#[test]
fn few_requests_stay_together() {
    let mut field = Field::new(&[100; 10]);
    let home = field.pick_for(Algorithm::Hash { load_max: 100 }, Some(42));
    for _ in 0..8 {
        assert_eq!(field.pick_for(Algorithm::Hash { load_max: 100 }, Some(42)), home);
        begin(&field.servers[home.unwrap()].1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn shares_follow_weights(weights in proptest::collection::vec(0..=256_u32, 1..8)) {
        prop_assume!(weights.iter().sum::<u32>() > 0);
        for (algorithm, within) in [
            (Algorithm::RoundRobin, 0.01),
            (Algorithm::LeastConnections, 0.01),
            // Chance and keys: four times the standard deviation.
            (Algorithm::Random, 0.02),
            (Algorithm::Hash { load_max: 150 }, 0.02),
        ] {
            assert_shares(&Field::new(&weights).shares(algorithm, 10_000), &expected(&weights), within);
        }
    }

    #[test]
    fn only_candidates_are_picked(weights in proptest::collection::vec(0..3_u32, 0..8), busy in 0..8_usize) {
        for algorithm in ALL {
            let mut field = Field::new(&weights);
            if let Some(server) = field.servers.get(busy) {
                (0..1_000).for_each(|_| begin(&server.1));
            }
            for _ in 0..20 {
                let picked = field.pick(algorithm);
                prop_assert_eq!(picked.is_some(), weights.iter().any(|weight| *weight > 0));
                prop_assert!(picked.is_none_or(|index| weights[index] > 0));
            }
        }
    }
}
