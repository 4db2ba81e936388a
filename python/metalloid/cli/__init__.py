"""The command line. Imported only when it runs: `import metalloid` does not pay for typer and rich."""
