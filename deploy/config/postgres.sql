-- One role and one schema for each service that keeps something in SQL. None may
-- look into another's. Runs once, when the database is made.
CREATE ROLE policy LOGIN PASSWORD 'throwaway';
CREATE ROLE auth LOGIN PASSWORD 'throwaway';
CREATE ROLE notifier LOGIN PASSWORD 'throwaway';
CREATE SCHEMA policy AUTHORIZATION policy;
CREATE SCHEMA auth AUTHORIZATION auth;
CREATE SCHEMA notifier AUTHORIZATION notifier;
