"""The DuckDB warehouse: publish a read copy, freeze a mart into a dataset."""
