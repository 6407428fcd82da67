//! Places on earth as numbers: longitude and latitude, 26 bits each, interleaved to 52 bits, which a double holds
//! exactly. So a sorted set keeps places in an order in which near ones mostly stand together, and a search looks at
//! nine intervals of it at the most.
//!
//! ```text
//! bit 51 50 49 48 … 3 2 1 0          of fewer steps: the same number without its low bits
//!     lo la lo la … lo la lo la      a cell of n steps: all numbers that begin with the same 2n bits
//! ```
//!
//! Numbers, distances and the order of a search's results are those of Redis, down to the last digit: the operations
//! on doubles are the same, in the same order.

/// Bits of each coordinate.
const STEPS: u32 = 26;
const LON_MAX: f64 = 180.0;
/// As far as the web's Mercator maps go.
const LAT_MAX: f64 = 85.051_128_78;
/// Where the text form counts latitudes to.
const TEXT_LAT_MAX: f64 = 90.0;
const EARTH_RADIUS_M: f64 = 6_372_797.560_856;
/// Half the equator of the Mercator projection.
const MERCATOR_MAX_M: f64 = 20_037_726.37;
const RADIANS: f64 = std::f64::consts::PI / 180.0;

/// Degrees.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    pub lon: f64,
    pub lat: f64,
}

impl Point {
    /// None for what is not on the map.
    pub fn new(lon: f64, lat: f64) -> Option<Point> {
        let on_map = (-LON_MAX..=LON_MAX).contains(&lon) && (-LAT_MAX..=LAT_MAX).contains(&lat);
        on_map.then_some(Point { lon, lat })
    }

    /// The number that stands for it in a sorted set.
    pub fn score(self) -> f64 {
        self.cell(STEPS, LAT_MAX).bits as f64
    }

    /// The middle of what a score stands for. Any number has one: scores need not come from `score`.
    pub fn of_score(score: f64) -> Point {
        let area = Cell {
            bits: truncated(score),
            steps: STEPS,
        }
        .area();
        let middle = |min: f64, max: f64, most: f64| ((min + max) / 2.0).clamp(-most, most);
        Point {
            lon: middle(area.west, area.east, LON_MAX),
            lat: middle(area.south, area.north, LAT_MAX),
        }
    }

    /// The eleven letters by which other services know a place; they count latitudes to the poles.
    pub fn text(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = self.cell(STEPS, TEXT_LAT_MAX).bits;
        std::array::from_fn(|i| match i {
            // There are 52 bits, and the last letter would need 55.
            10 => LETTERS[0],
            _ => LETTERS[(bits >> (STEPS as usize * 2 - (i + 1) * 5)) as usize & 31],
        })
    }

    fn cell(self, steps: u32, lat_max: f64) -> Cell {
        let part = |value: f64, most: f64| ((value + most) / (most + most) * f64::from(1 << steps)) as u32;
        Cell {
            bits: spread(part(self.lat, lat_max)) | spread(part(self.lon, LON_MAX)) << 1,
            steps,
        }
    }

    /// Metres along the surface, by the haversine formula.
    pub fn distance_m(self, other: Point) -> f64 {
        let v = ((other.lon * RADIANS - self.lon * RADIANS) / 2.0).sin();
        if v == 0.0 {
            return lat_distance_m(self.lat, other.lat);
        }
        let (lat, other_lat) = (self.lat * RADIANS, other.lat * RADIANS);
        let u = ((other_lat - lat) / 2.0).sin();
        let a = u * u + lat.cos() * other_lat.cos() * v * v;
        2.0 * EARTH_RADIUS_M * a.sqrt().asin()
    }
}

fn lat_distance_m(a: f64, b: f64) -> f64 {
    EARTH_RADIUS_M * (b * RADIANS - a * RADIANS).abs()
}

/// A score as an unsigned integer, as the processors that Redis mostly runs on convert one.
fn truncated(score: f64) -> u64 {
    if score < 9_223_372_036_854_775_808.0 {
        score as i64 as u64
    } else {
        score as u64
    }
}

/// The bits of `half` at the even places of a word.
fn spread(half: u32) -> u64 {
    const STAGES: [(u32, u64); 5] = [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ];
    STAGES.iter().fold(u64::from(half), |bits, (shift, mask)| {
        (bits | bits << shift) & mask
    })
}

/// The bits at the even places of a word.
fn gather(word: u64) -> u32 {
    const STAGES: [(u32, u64); 5] = [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ];
    let even = word & 0x5555_5555_5555_5555;
    STAGES
        .iter()
        .fold(even, |bits, (shift, mask)| (bits | bits >> shift) & mask) as u32
}

/// Degrees.
struct Area {
    west: f64,
    south: f64,
    east: f64,
    north: f64,
}

/// All places whose numbers begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    bits: u64,
    steps: u32,
}

impl Cell {
    fn area(self) -> Area {
        let cells = f64::from(1 << self.steps);
        let edge = |at: f64, most: f64| -most + at / cells * (most + most);
        let lat = f64::from(gather(self.bits));
        let lon = f64::from(gather(self.bits >> 1));
        Area {
            west: edge(lon, LON_MAX),
            south: edge(lat, LAT_MAX),
            east: edge(lon + 1.0, LON_MAX),
            north: edge(lat + 1.0, LAT_MAX),
        }
    }

    /// So many cells to the east and to the north; around the earth in both directions.
    fn moved(self, east: i32, north: i32) -> Cell {
        let mask = u32::MAX >> (u32::BITS - self.steps);
        // What does not move is left alone: the cell of the last meridian stands one behind the mask.
        let step = |half: u32, by: i32| match by {
            0 => half,
            _ => half.wrapping_add_signed(by) & mask,
        };
        let lat = step(gather(self.bits), north);
        let lon = step(gather(self.bits >> 1), east);
        Cell {
            bits: spread(lat) | spread(lon) << 1,
            ..self
        }
    }

    /// Scores from the first to before the second.
    fn scores(self) -> (f64, f64) {
        let low = (STEPS - self.steps) * 2;
        ((self.bits << low) as f64, ((self.bits + 1) << low) as f64)
    }
}

/// What a search covers, around a point.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shape {
    Circle { radius_m: f64 },
    Box { width_m: f64, height_m: f64 },
}

/// A search.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Search {
    pub center: Point,
    pub shape: Shape,
}

impl Search {
    /// How far a place is from the center, in metres, if the shape covers it.
    pub fn distance_m(&self, place: Point) -> Option<f64> {
        match self.shape {
            Shape::Circle { radius_m } => {
                let distance = self.center.distance_m(place);
                (distance <= radius_m).then_some(distance)
            }
            Shape::Box { width_m, height_m } => {
                let beside = Point {
                    lon: self.center.lon,
                    lat: place.lat,
                };
                let covered = lat_distance_m(place.lat, self.center.lat) <= height_m / 2.0
                    && place.distance_m(beside) <= width_m / 2.0;
                covered.then(|| self.center.distance_m(place))
            }
        }
    }

    /// Intervals of scores, each from its first to before its second, that hold every place which the shape covers,
    /// and others besides; in the order in which Redis reads them.
    pub fn intervals(&self) -> Vec<(f64, f64)> {
        let bounds = self.bounds();
        let steps = self.steps();
        let mut cell = self.center.cell(steps, LAT_MAX);
        if steps > 1 && !neighbours_reach(cell, &bounds) {
            cell = self.center.cell(steps - 1, LAT_MAX);
        }
        let mut intervals: Vec<(f64, f64)> = Vec::with_capacity(AROUND.len());
        for (east, north) in AROUND {
            if cell.steps >= 2 && is_idle(&cell.area(), &bounds, east, north) {
                continue;
            }
            // In the largest cells neighbours are the same ones, on either side.
            let next = cell.moved(east, north).scores();
            if intervals.len() < 2 || intervals.last() != Some(&next) {
                intervals.push(next);
            }
        }
        intervals
    }

    /// Half the width and half the height.
    fn half_m(&self) -> (f64, f64) {
        match self.shape {
            Shape::Circle { radius_m } => (radius_m, radius_m),
            Shape::Box { width_m, height_m } => (width_m / 2.0, height_m / 2.0),
        }
    }

    /// A box of degrees around the shape: as wide as it is on the side nearer to a pole.
    fn bounds(&self) -> Area {
        let (width, height) = self.half_m();
        let Point { lon, lat } = self.center;
        let lat_delta = height / EARTH_RADIUS_M / RADIANS;
        let lon_delta_at = |lat: f64| width / EARTH_RADIUS_M / (lat * RADIANS).cos() / RADIANS;
        let lon_delta = if lat < 0.0 {
            lon_delta_at(lat - lat_delta)
        } else {
            lon_delta_at(lat + lat_delta)
        };
        Area {
            west: lon - lon_delta,
            south: lat - lat_delta,
            east: lon + lon_delta,
            north: lat + lat_delta,
        }
    }

    /// The most steps at which a cell and its neighbours are likely to hold the shape.
    fn steps(&self) -> u32 {
        let (width, height) = self.half_m();
        let mut reach_m = match self.shape {
            Shape::Circle { radius_m } => radius_m,
            Shape::Box { .. } => (width * width + height * height).sqrt(),
        };
        if reach_m == 0.0 {
            return STEPS;
        }
        let mut steps: i32 = 1;
        while reach_m < MERCATOR_MAX_M {
            reach_m *= 2.0;
            steps += 1;
        }
        // One more for each of: the shape may lie across cells' edges; meridians meet towards the poles.
        steps -= 2;
        steps -= i32::from(self.center.lat.abs() > 66.0);
        steps -= i32::from(self.center.lat.abs() > 80.0);
        steps.clamp(1, STEPS as i32) as u32
    }
}

/// The cell itself and those around it, as steps to the east and to the north.
const AROUND: [(i32, i32); 9] = [
    (0, 0),
    (0, 1),
    (0, -1),
    (1, 0),
    (-1, 0),
    (1, 1),
    (-1, 1),
    (1, -1),
    (-1, -1),
];

/// True when the cells around `cell` reach as far as the bounds.
fn neighbours_reach(cell: Cell, bounds: &Area) -> bool {
    let reach = |east, north| cell.moved(east, north).area();
    !(reach(0, 1).north < bounds.north
        || reach(0, -1).south > bounds.south
        || reach(1, 0).east < bounds.east
        || reach(-1, 0).west > bounds.west)
}

/// True when nothing of the bounds lies on that side of the cell.
fn is_idle(cell: &Area, bounds: &Area, east: i32, north: i32) -> bool {
    north < 0 && cell.south < bounds.south
        || north > 0 && cell.north > bounds.north
        || east < 0 && cell.west < bounds.west
        || east > 0 && cell.east > bounds.east
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALERMO: Point = Point {
        lon: 13.361389,
        lat: 38.115556,
    };
    const CATANIA: Point = Point {
        lon: 15.087269,
        lat: 37.502669,
    };

    #[test]
    fn known_places_have_the_numbers_that_redis_gives_them() {
        assert_eq!(PALERMO.score(), 3_479_099_956_230_698.0);
        assert_eq!(CATANIA.score(), 3_479_447_370_796_909.0);
        let decoded = Point::of_score(PALERMO.score());
        assert_eq!(&decoded.text(), b"sqc8b49rny0");
        assert_eq!(
            format!("{:.4}", decoded.distance_m(Point::of_score(CATANIA.score()))),
            "166274.1516"
        );
        assert_eq!(format!("{:.17}", decoded.lon), "13.36138933897018433");
    }

    #[test]
    fn spreading_bits_and_gathering_them_are_inverse() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            let (even, odd) = (rng.u32(..), rng.u32(..));
            let word = spread(even) | spread(odd) << 1;
            assert_eq!((gather(word), gather(word >> 1)), (even, odd));
        }
    }

    fn place(rng: &mut fastrand::Rng) -> Point {
        Point {
            lon: rng.f64() * 360.0 - 180.0,
            lat: (rng.f64() * 2.0 - 1.0) * LAT_MAX,
        }
    }

    #[test]
    fn a_search_between_the_circles_of_latitude_meets_every_place_that_it_covers() {
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..20_000 {
            let center = Point {
                lat: place(&mut rng).lat * 0.7,
                ..place(&mut rng)
            };
            let size = 10_f64.powf(rng.f64() * 6.0);
            let shape = if rng.bool() {
                Shape::Circle { radius_m: size }
            } else {
                Shape::Box {
                    width_m: size,
                    height_m: size * rng.f64(),
                }
            };
            let search = Search { center, shape };
            let intervals = search.intervals();
            for _ in 0..20 {
                let degrees = size / 111_000.0;
                let lon = center.lon + (rng.f64() - 0.5) * 2.0 * degrees;
                let lat = center.lat + (rng.f64() - 0.5) * 2.0 * degrees;
                let Some(near) = Point::new(lon, lat) else {
                    continue;
                };
                let score = near.score();
                if search.distance_m(Point::of_score(score)).is_some() {
                    let met = intervals.iter().any(|(min, max)| (*min..*max).contains(&score));
                    assert!(met, "{search:?} {near:?}");
                }
            }
        }
    }

    #[test]
    fn any_number_is_a_place() {
        for score in [
            f64::MIN,
            -1.0,
            0.0,
            0.5,
            1e17,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            let Point { lon, lat } = Point::of_score(score);
            assert!(Point::new(lon, lat).is_some(), "{score}");
        }
    }
}
