-- The ledger of version 0.1.0 (commit a9f5e7b), dumped: QQ is uploaded; then a run of BAD, NODATA, QQ and STUCK
-- was killed while STUCK's third page was on its way. DESTINATION stands for the store's address and bucket.
PRAGMA application_id=1886350457;
PRAGMA user_version=3;
BEGIN TRANSACTION;
CREATE TABLE listing (
    source TEXT NOT NULL,
    ticker TEXT NOT NULL,
    exchange TEXT,
    currency TEXT,
    asked REAL NOT NULL,
    PRIMARY KEY (source, ticker)
) STRICT, WITHOUT ROWID;
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    version TEXT NOT NULL,
    source TEXT NOT NULL,
    universe TEXT NOT NULL,
    first_day TEXT NOT NULL,
    last_day TEXT NOT NULL,
    adjusted INTEGER NOT NULL,
    days_given INTEGER NOT NULL,
    settings TEXT NOT NULL,
    collected INTEGER NOT NULL,
    started REAL NOT NULL,
    ended REAL,
    state TEXT NOT NULL
, report TEXT) STRICT;
INSERT INTO "run" VALUES(1,'0.1.0','local','2f04a3aa051f1f60d695f6c44c0c3d383973dfd446ace8962664a76bb10e31a8','2026-03-02','2026-03-02',0,1,'{"adjusted": false, "base_url": "http://127.0.0.1:45811", "bucket": "old", "concurrency": 1, "currency": null, "days_given": true, "end": "2026-03-02", "exchange": null, "force": false, "keep_csv": true, "limit": null, "match": [], "outage_patience": 600.0, "output_dir": "output", "patience": 300.0, "processes": 2, "rate": "unlimited", "reference": false, "since_last": false, "stall_timeout": 30.0, "start": "2026-03-02", "universe": ["tickers.csv"], "upload": true}',1795647429,1.7956474296384129524e+09,1795647433.347,'done','{"version": "0.1.0", "exit_code": 0, "error": null, "interrupted": false, "collected": "2026-11-25T22:57:09+00:00", "from": "2026-03-02", "to": "2026-03-02", "adjusted": false, "tickers": {"total": 1, "done": 1, "earlier": 0, "no_data": 0, "failed": 0, "unfinished": 0}, "bars": 225, "doubles": 0, "csv_bytes": 14780, "stored_bytes": 8260, "requests": 3, "estimate": {"units": 1, "sessions": {"stocks": 1}, "requests": [1, 2], "bars": [1, 960], "csv_bytes": [58, 76800], "stored_bytes": [29, 46080], "rests_on": {"assumption": 1}}, "answers": {"200": 3}, "retries": {}, "seconds": 4.557, "seconds_in": {"lzop": 0.065, "network": 0.292, "reading": 0.235, "tokens": 0.0, "upload": 0.354}, "latency_ms": {"p50": 32.9, "p95": 267.8, "p99": 267.8}, "settings": {"base_url": "http://127.0.0.1:45811", "universe": ["tickers.csv"], "start": "2026-03-02", "end": "2026-03-02", "adjusted": false, "concurrency": 1, "rate": "unlimited", "patience": 300.0, "stall_timeout": 30.0, "outage_patience": 600.0, "upload": true, "bucket": "old", "output_dir": "output", "keep_csv": true, "force": false, "exchange": null, "currency": null, "reference": false, "processes": 2, "match": [], "limit": null, "since_last": false, "days_given": true}, "series": {"seconds": 1.0, "points": [[1.0, 3.0, 0.0, 0.0, null]]}, "latencies": [[4.2, 1], [44.0, 1], [310.1, 1]], "slowest": [{"ticker": "QQ", "seconds": 0.962, "bars": 225, "state": "uploaded"}], "failures": [], "no_data_tickers": [], "coverage": {"months": [["2026-03", 1, 1]], "tickers": [{"ticker": "QQ", "expected": 1, "with_bars": 1, "half_days": 0, "before": 0, "after": 0, "missing": [], "first": "2026-03-02T09:09:00+00:00", "last": "2026-03-03T00:57:00+00:00", "months": {"2026-03": [1, 1]}}], "of": 1, "with_gaps": 0}}');
INSERT INTO "run" VALUES(2,'0.1.0','local','4dd89e351b2a3442d3f90b4ab10c4732994e490eefdd26103937d1b48621424f','2026-03-02','2026-03-02',0,1,'{"adjusted": false, "base_url": "http://127.0.0.1:45811", "bucket": "old", "concurrency": 1, "currency": null, "days_given": true, "end": "2026-03-02", "exchange": null, "force": false, "keep_csv": true, "limit": null, "match": [], "outage_patience": 600.0, "output_dir": "output", "patience": 300.0, "processes": 2, "rate": "unlimited", "reference": false, "since_last": false, "stall_timeout": 30.0, "start": "2026-03-02", "universe": ["tickers.csv"], "upload": true}',1795647438,1.7956474385305321216e+09,NULL,'running',NULL);
CREATE TABLE unit (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    ticker TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    first_day TEXT NOT NULL,
    last_day TEXT NOT NULL,
    adjusted INTEGER NOT NULL,
    state TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES run,
    day TEXT NOT NULL,
    size INTEGER, crc INTEGER, bars INTEGER, first INTEGER, last INTEGER, doubles INTEGER, resume_at INTEGER,
    sha256 TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    began REAL NOT NULL,
    ended REAL, days TEXT, coverage TEXT,
    UNIQUE (source, ticker, timeframe, first_day, last_day, adjusted)
) STRICT;
INSERT INTO "unit" VALUES(1,'local','QQ','1min','2026-03-02','2026-03-02',0,'fetched',1,'2026-11-25',14780,2554893890,225,1772442540000,1772499420000,0,NULL,'f8e14201e6adc29dd974d3be51f603da9bf4142d036191f8a37d38282332f01b',1,NULL,1795647429.657,1795647430.197,'20514:1','{"expected": 1, "with_bars": 1, "half_days": 0, "before": 0, "after": 0, "missing": []}');
INSERT INTO "unit" VALUES(2,'local','BAD','1min','2026-03-02','2026-03-02',0,'failed',2,'2026-11-25',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'HTTP 404: 404 page not found [GET /v2/aggs/ticker/BAD/range/1/minute/2026-03-02/2026-03-02]',1795647438.592,1795647438.596,NULL,NULL);
INSERT INTO "unit" VALUES(3,'local','NODATA','1min','2026-03-02','2026-03-02',0,'no data',2,'2026-11-25',NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,1,NULL,1795647438.598,1795647439.049,NULL,NULL);
INSERT INTO "unit" VALUES(4,'local','STUCK','1min','2026-03-02','2026-03-02',0,'fetching',2,'2026-11-25',13298,3208064019,200,1772442240000,1772472000000,1,1772472060000,NULL,1,NULL,1795647439.051,NULL,'20514:1',NULL);
CREATE TABLE upload (
    unit INTEGER NOT NULL REFERENCES unit,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES run,
    collected INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    bucket TEXT, key TEXT, size INTEGER, checksum TEXT, confirmed_by TEXT, tags TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    began REAL NOT NULL,
    ended REAL,
    PRIMARY KEY (unit, destination)
) STRICT, WITHOUT ROWID;
INSERT INTO "upload" VALUES(1,'DESTINATION','uploaded',1,1795647429,'f8e14201e6adc29dd974d3be51f603da9bf4142d036191f8a37d38282332f01b','old','stocks/QQ/polygon/2026/11/25/22/QQ_polygon_202611252257.csv.lzo',8260,'cc20588da9830738b3474f72c4a1b760','etag','{"asset_type": "stocks", "symbol": "QQ", "source": "polygon", "exchange": "unknown", "currency": "USD", "timeframe": "1min", "date": "2026-11-25", "quality": "raw"}',1,NULL,1795647430.198,1795647430.617);
COMMIT;
