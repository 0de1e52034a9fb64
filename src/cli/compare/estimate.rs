//! How far apart two series are, for what they vary by themselves.
//!
//! A series is given as figures of blocks of time, such as the mean of each second. Neighbouring blocks resemble each other, some blocks
//! stand out, and the first and the last have only a part of a load. So levels are means of the middle blocks with their winsorized
//! deviation (Yuen, *Biometrika* 61, 1974), and the deviation is widened by the correlation of neighbours. What comes in bursts that are
//! rarer than blocks has none of them in the middle, and has a plain mean as its second estimate.

/// Fewer blocks tell nothing.
pub(super) const BLOCKS_MIN: usize = 6;
/// The part of the blocks that is left out at either end.
const TRIMMED: f64 = 0.2;
/// More correlation than this between neighbours is not believed of so few blocks.
const CORRELATION_MAX: f64 = 0.95;
/// One over the part of the blocks that is left out at either end, and most blocks there.
const ENDS_PARTS: usize = 6;
const ENDS_MAX: usize = 3;
/// What equal blocks in the middle vary, as a part of what all do.
const HALF: f64 = 0.5;
/// Standard errors by which neighbours may resemble each other more than they seem to.
const CAUTION: f64 = 0.35;
/// A deviation is known no worse than by so many degrees of freedom.
const FREEDOM_MIN: f64 = 6.0;

/// The level of a series, and how well it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    pub(super) value: f64,
    /// The square of its standard error.
    pub(super) variance: f64,
    /// The degrees of freedom of that.
    freedom: f64,
}

/// Two levels beside each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) a: f64,
    pub(super) b: f64,
    /// The standard error of their difference.
    pub(super) error: f64,
    /// How many standard errors the difference is, as of a normal distribution: so it is rare by chance alone however few blocks there
    /// are.
    pub(super) surprise: f64,
}

impl Level {
    /// The mean of the blocks in the middle, in the order of their values. Blocks without a figure are NaN.
    pub(super) fn of_middle(blocks: &[f64]) -> Option<Level> {
        let blocks = finite(blocks);
        let mut sorted = blocks.clone();
        sorted.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of the number of blocks")]
        let left_out = (TRIMMED * sorted.len() as f64) as usize;
        let middle = sorted.get(left_out..sorted.len() - left_out)?;
        let (least, greatest) = (*middle.first()?, *middle.last()?);
        let mut varied: Vec<f64> = blocks.iter().map(|value| value.clamp(least, greatest)).collect();
        if least >= greatest {
            // Most blocks are equal, as where few things are counted. How far a mean may be off is in the others.
            let inner = inner(&blocks);
            let middle = mean(inner);
            varied = inner.iter().map(|value| middle + HALF * (value - middle)).collect();
        }
        let kept = middle.len() as f64 / blocks.len() as f64;
        Level::new(mean(middle), &varied, kept)
    }

    /// The mean of all blocks but those at the ends.
    pub(super) fn of_all(blocks: &[f64]) -> Option<Level> {
        let blocks = finite(blocks);
        let inner = inner(&blocks);
        if inner.is_empty() { None } else { Level::new(mean(inner), inner, 1.0) }
    }

    /// `kept` is the part of the blocks whose mean `value` is.
    fn new(value: f64, blocks: &[f64], kept: f64) -> Option<Level> {
        let count = blocks.len() as f64;
        if blocks.len() + 2 < BLOCKS_MIN {
            return None;
        }
        let middle = mean(blocks);
        let squares: f64 = blocks.iter().map(|block| (block - middle).powi(2)).sum();
        let correlation = correlation(blocks, middle, squares);
        // Those of an autoregression of first order.
        let longer = (1.0 + correlation) / (1.0 - correlation);
        let known = (1.0 - correlation.powi(2)) / (1.0 + correlation.powi(2));
        let variance = squares / (count - 1.0) * longer / (kept.powi(2) * count);
        Some(Level { value, variance, freedom: (kept * count * known - 1.0).max(FREEDOM_MIN) })
    }

    /// The same level and error of a series that stands lower by `start`.
    pub(super) fn above(self, start: f64) -> Level {
        Level { value: self.value - start, ..self }
    }
}

/// How much neighbours resemble each other, which widens the error of a mean. So few blocks show too little of it, which is made good
/// (Kendall, *Biometrika* 41, 1954).
fn correlation(blocks: &[f64], middle: f64, squares: f64) -> f64 {
    if squares <= 0.0 {
        return 0.0;
    }
    let count = blocks.len() as f64;
    let pairs = blocks.iter().zip(blocks.iter().skip(1));
    let together: f64 = pairs.map(|(one, next)| (one - middle) * (next - middle)).sum();
    let likely = (together / squares + 1.0 / count) / (1.0 - 3.0 / count);
    (likely + CAUTION / count.sqrt()).clamp(0.0, CORRELATION_MAX)
}

impl Difference {
    /// `floor` is the error that either level has at least, whatever its blocks say.
    pub(super) fn between(a: Level, b: Level, floor: f64) -> Difference {
        let variance = a.variance + b.variance + 2.0 * floor.powi(2);
        let error = variance.sqrt();
        let apart = b.value - a.value;
        // The floor is known, and what is small beside it need not be (Welch, *Biometrika* 34, 1947).
        let squares = a.variance.powi(2) / a.freedom + b.variance.powi(2) / b.freedom;
        let freedom = if squares > 0.0 { variance.powi(2) / squares } else { f64::INFINITY };
        let surprise = if apart == 0.0 { 0.0 } else { as_normal(apart.abs() / error, freedom) };
        Difference { a: a.value, b: b.value, error, surprise }
    }
}

/// The value of a normal distribution that is as rare as `t` of Student's with these degrees of freedom (Wallace, *Annals of
/// Mathematical Statistics* 30, 1959).
fn as_normal(t: f64, freedom: f64) -> f64 {
    if freedom.is_infinite() || t.is_infinite() {
        return t;
    }
    (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * (freedom * (t * t / freedom).ln_1p()).sqrt()
}

/// How surprising a difference has to be if the most surprising of `compared` equal pairs is to stay below it, but once in so many
/// comparisons as one over `chance`: a bound of the tail of a normal distribution.
pub(super) fn bound(compared: usize, chance: f64) -> f64 {
    (2.0 * (compared.max(1) as f64 / chance).ln()).sqrt()
}

/// The blocks without those at the ends, which have only a part of a load: it starts, and comes to its end.
fn inner(blocks: &[f64]) -> &[f64] {
    let left_out = (blocks.len() / ENDS_PARTS).clamp(1, ENDS_MAX);
    blocks.get(left_out..blocks.len().saturating_sub(left_out)).unwrap_or_default()
}

fn finite(blocks: &[f64]) -> Vec<f64> {
    blocks.iter().copied().filter(|value| value.is_finite()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
