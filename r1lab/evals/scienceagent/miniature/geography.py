"""Geographic information: distances, rasters, polygons, terrain."""

import json
import math
import random

from r1lab.evals.scienceagent.miniature.made import Made, table

DOMAIN = "Geographical Information Science"


def grid(rows: list[list[float]]) -> str:
    """A raster as CSV without a head."""
    return "\n".join(",".join(map(str, row)) for row in rows) + "\n"


def station_files(rng: random.Random) -> dict[str, str]:
    rows = []
    for k in range(30):
        lon = round(rng.uniform(170, 190), 4)  # on both sides of the date line
        rows.append((f"st_{k:02d}", round(rng.uniform(-25, -5), 4), lon - 360 * (lon > 180)))
    return {"stations.csv": table("name,lat,lon", [(n, la, round(lo, 4)) for n, la, lo in rows])}


def band_files(rng: random.Random) -> dict[str, str]:
    size, red, near, zones = 40, [], [], []
    green = [rng.uniform(0.1, 0.9) for _ in range(4)]
    for y in range(size):
        zone = [1 + 2 * (y >= 20) + (x >= 25) for x in range(size)]
        zones.append(zone)
        lush = [rng.random() < green[z - 1] for z in zone]
        near.append([round(rng.uniform(0.4, 0.6) if g else rng.uniform(0.2, 0.3), 4) for g in lush])
        red.append(
            [round(rng.uniform(0.05, 0.15) if g else rng.uniform(0.15, 0.3), 4) for g in lush]
        )
        for x in range(size):
            if rng.random() < 0.03:  # clouds
                red[y][x] = near[y][x] = -9999
    return {"bands/red.csv": grid(red), "bands/nir.csv": grid(near), "zones.csv": grid(zones)}


def parcel_files(rng: random.Random) -> dict[str, str]:
    features = []
    for k in range(12):
        x, y = 200 * (k % 4) + 100, 200 * (k // 4) + 100
        angles = sorted(rng.uniform(0, 2 * math.pi) for _ in range(rng.randint(5, 9)))
        ring = []
        for angle in angles:
            r = rng.uniform(30, 90)
            ring.append([round(x + r * math.cos(angle), 2), round(y + r * math.sin(angle), 2)])
        if k % 3 == 0:
            ring.reverse()  # clockwise
        geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        features.append({"type": "Feature", "properties": {"id": f"parcel_{k:02d}"},
                         "geometry": geometry})  # fmt: skip
    trees = [(k, round(rng.uniform(0, 800), 1), round(rng.uniform(0, 600), 1)) for k in range(400)]
    collection = {"type": "FeatureCollection", "features": features}
    return {"parcels.geojson": json.dumps(collection), "trees.csv": table("tree,x,y", trees)}


def terrain_files(rng: random.Random) -> dict[str, str]:
    hills = [(rng.uniform(0, 50), rng.uniform(0, 50), rng.uniform(80, 300)) for _ in range(6)]
    rows = []
    for y in range(50):
        row = []
        for x in range(50):
            heights = (h * math.exp(-((x - a) ** 2 + (y - b) ** 2) / 90) for a, b, h in hills)
            row.append(round(sum(heights) + rng.uniform(0, 0.5), 3))
        rows.append(row)
    return {"elevation.csv": grid(rows)}


TASKS = (
    Made(
        "nearest_station", DOMAIN, "Geospatial Analysis",
        "For every station of stations.csv find the nearest other one by the great-circle distance "
        "(haversine formula, radius 6371.0088 km); the stations lie on both sides of the 180th "
        "meridian. Save a CSV file with the columns name, nearest, km, in the order of the file: "
        "{output}.",
        "Longitudes of 179.9 and -179.9 are 0.2 degrees apart.",
        ".csv", station_files,
    ),
    Made(
        "vegetation_index", DOMAIN, "Geospatial Analysis",
        "bands/red.csv and bands/nir.csv are rasters of reflectance without a header, zones.csv "
        "the zone of each cell; -9999 marks clouds. Compute the NDVI of every cell without clouds "
        "and, for each zone, the mean NDVI and the fraction of its cells without clouds whose NDVI "
        "is above 0.4. Save a JSON object that maps the zone, as a text, to an object with "
        "mean_ndvi and green_fraction: {output}.",
        "NDVI = (NIR - red) / (NIR + red).",
        ".json", band_files,
    ),
    Made(
        "parcel_trees", DOMAIN, "Geospatial Analysis",
        "For every polygon of parcels.geojson (coordinates in metres) compute its area and the "
        "number of trees of trees.csv inside it. Save a CSV file with the columns id, area_m2, "
        "trees, in the order of the file: {output}.",
        "Areas are positive, whichever way round a ring is drawn.",
        ".csv", parcel_files,
    ),
    Made(
        "slope_histogram", DOMAIN, "Data Visualization",
        "elevation.csv is a raster of heights in metres without a header; cells are 10 m wide. "
        "Compute the slope in degrees of every cell from central differences (one-sided ones at "
        "the edges, as numpy.gradient does). For a histogram of the slopes count the cells in bins "
        "of 5 degrees from 0 to 90; the last bin includes 90. Save the data of the figure and no "
        "picture: a JSON object with edges (19 numbers) and counts (18 numbers): {output}.",
        "slope = arctan(sqrt((dz/dx)^2 + (dz/dy)^2))",
        ".json", terrain_files, figure=True,
    ),
)  # fmt: skip
