# Postgres with the two extensions that the migrations ask for; RDS and Aurora have both.
FROM postgres:18-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends postgresql-18-pgvector postgresql-18-postgis-3 \
    && rm -rf /var/lib/apt/lists/*
